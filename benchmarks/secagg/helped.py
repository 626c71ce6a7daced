"""The same federation, with a helper that takes the masks off: sessions with a clock on every step."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from archipel.security import Authority, key_digest
from archipel.security.secagg import History
from archipel.security.two_server import HelperSession, Party, Seat, ServerSession, SiteAnswer, Terms
from archipel.spec import digest_of, encode
from secagg.federation import NOW, Federation, Spent, certified

HELPER = "notary"


class Helped(Federation):
    """Sites with certificates and updates, and a helper."""

    def certify(self, authority: Authority) -> None:
        """Let the helper join too."""
        super().certify(authority)
        self._helper = certified(HELPER, authority)

    def play(self, gone: Iterable[str]) -> Spent:
        """Play one session in which the sites `gone` are silent; check its sum."""
        self._round += 1
        spent = Spent(frozenset(gone))
        terms = self._helped_terms()
        server = ServerSession(terms, self._trust, NOW)
        helper = spent.of_site(HELPER, "join", lambda: self._helper_session(terms))
        spent.hear({HELPER: encode(terms)})
        inbox = self._stage(spent, server, "advertise", {HELPER: helper.advertise})
        vectors: dict[str, npt.NDArray[np.uint32]] = {}

        def masked(site: str) -> bytes:
            answer = SiteAnswer.to(inbox[site], seat=self._seat(site), history=History(), entropy=os.urandom(32))
            message, vectors[site] = answer.mask({"delta": self._updates[site]}, weight=self._weights[site])
            return message

        def released() -> bytes:
            message, vector = helper.release(gathered[HELPER], history=History())
            assert vector is not None
            vectors[HELPER] = vector
            return message

        here = [site for site in self.sites if site not in spent.gone]
        gathered = self._stage(spent, server, "mask", {site: lambda site=site: masked(site) for site in here})
        self._stage(spent, server, "release", {HELPER: released})
        total = np.zeros(self._layout.count, np.uint32)

        def add() -> None:
            for site in (*server.survivors, HELPER):
                np.add(total, vectors[site], out=total)

        spent.of_control("vectors added", add)
        spent.sums = spent.of_control("decoded", lambda: self._layout.decode(total, sites=len(server.survivors)))
        self._check(here, spent.sums)
        return spent

    def _helped_terms(self) -> Terms:
        return Terms(
            run="bench-00000000",
            round=self._round,
            model=digest_of(b""),
            helper=HELPER,
            least=3,
            layout=self._layout,
            parties=tuple(
                Party(site=site, key=key_digest(identity.key.public_key()))
                for site, identity in self._identities.items()
            ),
        )

    def _helper_session(self, terms: Terms) -> HelperSession:
        return HelperSession.join(encode(terms), seat=self._seat(HELPER), history=History(), entropy=os.urandom(32))

    def _seat(self, site: str) -> Seat:
        identity = self._helper if site == HELPER else self._identities[site]
        return Seat(site, identity, self._trust, NOW, 3)
