"""A sum with a helper for tests: keys from names, so that a session is a function of its seed.

party = HelpedParty.of(5)
total = party.session().run()              the unmasked sum of levels
party.session(gone={"s1"}).play()          with a site that is silent
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from archipel.security import key_digest
from archipel.security.secagg import History, Trust
from archipel.security.two_server import HelperSession, Party, Seat, ServerSession, SiteAnswer, Terms
from archipel.spec import encode
from secagg_party import NOW, authority, identity, names
from secagg_party import Party as SharesParty

HELPER = "notary"


def party_of(site: str, key: str = "") -> Party:
    """A site as the terms name it."""
    return Party(site=site, key=key_digest(identity(site, key).key.public_key()))


@dataclass(frozen=True)
class HelpedParty:
    """The terms of a session, and who comes to it."""

    terms: Terms
    values_of: SharesParty
    least_sites: int = 3
    seed: bytes = b"party"

    @classmethod
    def of(cls, count: int, *, least: int = 3, parameters: int = 6) -> HelpedParty:
        shares = SharesParty.of(count, parameters=parameters)
        terms = Terms(
            run=shares.terms.run,
            round=shares.terms.round,
            model=shares.terms.model,
            helper=HELPER,
            least=least,
            layout=shares.terms.layout,
            parties=tuple(party_of(site) for site in names(count)),
        )
        return cls(terms, shares)

    @property
    def sites(self) -> list[str]:
        return [party.site for party in self.terms.parties]

    def seat(self, site: str, **changes: object) -> Seat:
        own = Seat(site, identity(site), Trust(authority().pem), NOW, self.least_sites)
        return own._replace(**changes)

    def entropy(self, site: str) -> bytes:
        return hashlib.sha256(self.seed + site.encode()).digest()

    def help(self, terms: Terms | None = None, history: History | None = None, **changes: object) -> HelperSession:
        return HelperSession.join(
            encode(terms or self.terms),
            seat=self.seat(HELPER, **changes),
            history=history or History(),
            entropy=self.entropy(HELPER),
        )

    def answer(
        self, site: str, invitation: bytes, history: History | None = None, **changes: object
    ) -> tuple[bytes, np.ndarray]:
        answer = SiteAnswer.to(
            invitation,
            seat=self.seat(site, **changes),
            history=history or History(),
            entropy=self.entropy(site),
        )
        values, weight = self.values_of.values(site)
        return answer.mask(values, weight=weight)

    def session(self, gone: Iterable[str] = ()) -> HelpedSession:
        return HelpedSession(self, frozenset(gone))

    def again(self, seed: bytes) -> HelpedParty:
        """The next attempt, with other keys."""
        terms = Terms(**{**{name: getattr(self.terms, name) for name in Terms.__struct_fields__}, "attempt": 1})
        return replace(self, terms=terms, seed=seed)


class HelpedSession:
    """One session with an honest control; sites that are `gone` are silent."""

    def __init__(self, party: HelpedParty, gone: frozenset[str]) -> None:
        self.party = party
        self.gone = gone
        self.server = ServerSession(party.terms, Trust(authority().pem), NOW)
        self.helper = party.help()
        self.invitations: dict[str, bytes] = {}
        self.masked: dict[str, bytes] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.gathered = b""
        self.correction = b""

    def invite(self) -> HelpedSession:
        """Until the sites are invited."""
        self.server.take(HELPER, self.helper.advertise())
        self.invitations = self.server.close()
        return self

    def gather(self) -> HelpedSession:
        """Until the helper is asked."""
        self.invite()
        for site in self.party.sites:
            if site not in self.gone:
                self.masked[site], self.vectors[site] = self.party.answer(site, self.invitations[site])
                self.server.take(site, self.masked[site])
        self.gathered = self.server.close()[HELPER]
        return self

    def play(self) -> HelpedSession:
        """To the end."""
        self.gather()
        self.correction, vector = self.helper.release(self.gathered, history=History())
        assert vector is not None
        self.vectors[HELPER] = vector
        self.server.take(HELPER, self.correction)
        assert self.server.close() == {}
        return self

    def total(self) -> np.ndarray:
        """The sum of levels, once masks are off."""
        total = self.vectors[HELPER].copy()
        for site in self.server.survivors:
            total += self.vectors[site]
        return total

    def run(self) -> np.ndarray:
        return self.play().total()

    def plain_total(self, sites: Iterable[str]) -> np.ndarray:
        """The sum of the same sites' levels, added up without masks."""
        from archipel.security.secagg.derivation import Label, derive, hash_of

        key = hash_of(self.party.terms.session, Label.CONTEXT, self.helper.advertise())
        total = np.zeros(self.party.terms.layout.count, np.uint32)
        for site in sites:
            values, weight = self.party.values_of.values(site)
            rounding = derive(self.party.entropy(site), key, Label.ROUNDING, site)
            total += self.party.terms.layout.encode(values, weight=weight, rounding=rounding)
        return total
