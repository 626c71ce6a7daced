"""The round under way: who was asked, who has answered, who refused, who is away."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

import msgspec

from archipel.federated.stages import PRELUDE, Stage, share_of
from archipel.spec import Refusal, Update

Answer = Literal["accepted", "duplicate", "stale"]


class OpenRound(msgspec.Struct, kw_only=True):
    """One round, until it is closed; written by the coordinator alone. Each answer costs the same for any cohort."""

    stage: Stage
    cohort: frozenset[str]
    answered: dict[str, Update] = msgspec.field(default_factory=dict)
    refused: dict[str, Refusal] = msgspec.field(default_factory=dict)
    unanswered: dict[str, None]
    """Sites of the cohort that have neither answered nor refused; a dict, to keep an order that replays."""
    away: set[str]
    """Those of them that are lost and not waited for (quorum only)."""
    folding: bool = False

    def receipt(self, answer: Update | Refusal) -> Answer:
        """Say what an answer to this round is worth."""
        if answer.site in self.answered:
            return "duplicate"
        if self.folding or answer.site not in self.cohort:
            return "stale"
        if isinstance(answer, Refusal):
            return "duplicate" if answer.site in self.refused else "accepted"
        return "accepted" if answer.kind == self.stage.kind else "stale"

    def settle(self, site: str) -> None:
        """Note that a site answered or refused."""
        self.unanswered.pop(site, None)
        self.away.discard(site)

    def ask_again(self, site: str, *, away: bool) -> None:
        """Forget a refusal; `away`: the site is lost and not waited for."""
        del self.refused[site]
        self.unanswered[site] = None
        if away:
            self.away.add(site)

    def ask_also(self, site: str, *, away: bool) -> None:
        """Take one more site into the round."""
        self.cohort |= {site}
        self.unanswered[site] = None
        if away:
            self.away.add(site)

    def needed(self, least: int, quorum: float | None) -> int:
        """Return how many answers the round cannot close without; `least` sites make a run, and None waits for all."""
        if self.stage.sole:
            return 1
        if self.stage.kind not in PRELUDE:
            count = len(self.cohort)
            return count if quorum is None else share_of(quorum, count)
        remaining = len(self.cohort) - len(self.refused)
        return least if quorum is None else max(least, share_of(quorum, remaining))

    def reasons(self, staying: set[str]) -> dict[str, str]:
        """Return why each site of the cohort that does not stay leaves the run."""
        away = f"away during {self.stage.kind}"
        leaving = sorted(self.cohort - staying)
        return {site: self.refused[site].message if site in self.refused else away for site in leaving}

    def first_refusal(self) -> tuple[str, str]:
        """Return what is said of the first site by name that refused, and its hint."""
        site, refusal = min(self.refused.items())
        others = len(self.refused) - 1
        more = f" (and {others} more)" if others else ""
        message = f"{self.stage.kind}: {site} refused: {refusal.error}: {refusal.message}{more}"
        return message, refusal.hint or "mend the reason at the site, then resume the run"

    @property
    def awaited(self) -> bool:
        """May an answer still come that the round waits for?"""
        return len(self.unanswered) > len(self.away) and not (self.stage.sole and self.answered)


def holds(names: tuple[str, ...], name: str) -> bool:
    """Is `name` among the sorted `names`?"""
    place = bisect_left(names, name)
    return place < len(names) and names[place] == name
