"""The terms of a session: everything all sides agree on before a key is made. Their digest names the session.

Two sites that saw different terms, be it one threshold or one certificate, have different session names, and nothing
of one opens, verifies or cancels at the other.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.encoding import Layout
from archipel.security.secagg.parameters import Policy, Shape, require_strict
from archipel.spec import Digest, Name, Value, digest_value


class Member(Value, frozen=True, kw_only=True):
    """A site that is invited, under one certificate."""

    site: Name
    fingerprint: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of its certificate, in hex."""


class Terms(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-terms/1"):
    """What one session is about."""

    run: Name
    round: Annotated[int, Meta(ge=0)]
    attempt: Annotated[int, Meta(ge=0)] = 0
    """Counts up when the round is tried again, after an abort, with other sites."""
    model: Digest
    """The weights the sites trained from."""
    shape: Shape
    layout: Layout
    members: tuple[Member, ...]
    """By name, each once."""

    @property
    def session(self) -> bytes:
        """Name of the session (`sid`), 32 bytes."""
        return bytes.fromhex(digest_value(self).removeprefix("sha256:"))

    def fingerprint_of(self, site: str) -> str | None:
        """Return the fingerprint a site is invited under; None: it is not invited."""
        return next((member.fingerprint for member in self.members if member.site == site), None)

    def require_strict(self, policy: Policy) -> None:
        """Hold the terms against a site's policy.

        Raises:
            SecureAggregationError: small-cohort, weak-terms, or malformed where members repeat or the layout is made
                for fewer sites.
        """
        names = [member.site for member in self.members]
        if names != sorted(set(names)) or len({member.fingerprint for member in self.members}) != len(names):
            raise abort(Reason.MALFORMED, "members are not sorted, or one is there twice")
        if self.layout.sites < len(names):
            raise abort(Reason.MALFORMED, f"the layout is made for {self.layout.sites} sites, there are {len(names)}")
        require_strict(len(names), self.shape, policy)
