"""The terms of a sum with a helper: what control, helper and sites agree on. Their digest names the session."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from archipel.security.secagg.abort import Reason, abort
from archipel.security.secagg.encoding import Layout
from archipel.spec import Digest, Name, Value, digest_value

LEAST_SITES = 3
"""With two sites, each reads the other's vector off the sum."""


class Party(Value, frozen=True, kw_only=True):
    """A site that is invited, under one key."""

    site: Name
    key: Digest
    """Of its public key, as `key_digest` makes it."""


class Terms(Value, frozen=True, kw_only=True, tag_field="type", tag="two-server-terms/1"):
    """What one session is about."""

    run: Name
    round: Annotated[int, Meta(ge=0)]
    attempt: Annotated[int, Meta(ge=0)] = 0
    """Counts up when the round is tried again, after an abort."""
    model: Digest
    """The weights the sites trained from."""
    helper: Name
    least: Annotated[int, Meta(ge=LEAST_SITES)]
    """Fewest sites over which the helper takes masks off."""
    layout: Layout
    parties: tuple[Party, ...]
    """By name, each once."""

    @property
    def session(self) -> bytes:
        """Name of the session (`sid`), 32 bytes."""
        return bytes.fromhex(digest_value(self).removeprefix("sha256:"))

    def key_of(self, site: str) -> Digest | None:
        """Return the digest of the key that a site is invited under; None: it is not invited."""
        return next((party.key for party in self.parties if party.site == site), None)

    def require_fair(self, least_sites: int) -> None:
        """Hold the terms against what a site or the helper asks for.

        Raises:
            SecureAggregationError: weak-terms, small-cohort, or malformed where parties repeat, the helper is one of
                them, or the layout is made for fewer sites.
        """
        names = [party.site for party in self.parties]
        if names != sorted(set(names)) or len({party.key for party in self.parties}) != len(names):
            raise abort(Reason.MALFORMED, "parties are not sorted, or one is there twice")
        if self.helper in names:
            raise abort(Reason.MALFORMED, f"{self.helper} would be a site and its own helper")
        if self.layout.sites < len(names):
            raise abort(Reason.MALFORMED, f"the layout is made for {self.layout.sites} sites, there are {len(names)}")
        if len(names) < max(least_sites, self.least):
            raise abort(Reason.SMALL_COHORT, f"{len(names)} sites, at least {max(least_sites, self.least)} are needed")
        if self.least < least_sites:
            detail = f"a sum over {self.least} sites may be opened, and at least {least_sites} are asked for"
            raise abort(Reason.WEAK_TERMS, detail)
