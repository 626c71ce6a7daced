"""What can be said to a task: it is allowed, it waits, or it is refused for a reason."""

from __future__ import annotations

from archipel.spec import PolicyError, Value
from archipel.spec.wire import Waits


class Allowed(Value, frozen=True, kw_only=True):
    """The work may begin."""


class Pending(Value, frozen=True, kw_only=True):
    """It may begin later, without anything being asked again."""

    waits: Waits
    """For what."""


class Refused(Value, frozen=True, kw_only=True):
    """It may not. Control is told all of this, so it says no more of the policy than whoever asks must know."""

    rule: str
    """Key of the policy, such as "least_sites", or "pinned" for what a run was begun with."""
    message: str
    hint: str = "ask the site's owner, whose policy it is"

    def as_error(self) -> PolicyError:
        """Return the error that control gets."""
        return PolicyError(f"{self.rule}: {self.message}", hint=self.hint)


Verdict = Allowed | Pending | Refused
