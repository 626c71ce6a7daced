"""A sum with a helper: each site says one thing, and the helper takes the masks off (`security.two_server`).

leg         who          is told       answers                      when it closes
advertise   the helper   Terms         HelperKey                    the sites are invited
mask        each site    Invitation    Masked, and the vector       who survived: nobody else is in the sum
release     the helper   Gathered      Correction, and its vector   the sum can be opened
"""

from __future__ import annotations

from archipel.federated.secure.exchange import Draft, Outbox, require_vector
from archipel.federated.secure.legs import LEAST_SITES
from archipel.federated.secure.opening import CORRECTION, MASKED, Unmasking
from archipel.security import certified_key
from archipel.security.secagg import Layout
from archipel.security.secagg.messages import read
from archipel.security.two_server import Party, ServerSession, Terms
from archipel.security.two_server.messages import Correction, Masked
from archipel.spec import Blob, Leg, Manifest, Update, encode


class ByHelper:
    """Control in one session."""

    def __init__(self, draft: Draft) -> None:
        """Draw the terms."""
        parties = tuple(
            Party(site=site, key=certified_key(certificate)) for site, certificate in sorted(draft.certificates.items())
        )
        terms = Terms(
            run=draft.run,
            round=draft.round,
            attempt=draft.attempt,
            model=draft.model,
            helper=draft.helper,
            least=max(LEAST_SITES, min(draft.fewest, len(parties))),
            layout=draft.layout,
            parties=parties,
        )
        self._server = ServerSession(terms, draft.trust, draft.now)
        self._correction: Blob | None = None

    @property
    def layout(self) -> Layout:
        """See Exchange."""
        return self._server.terms.layout

    @property
    def members(self) -> int:
        """See Exchange."""
        return len(self._server.terms.parties) if self._server.stage == "mask" else 1

    @property
    def least(self) -> int:
        """See Exchange."""
        return self._server.terms.least if self._server.stage == "mask" else 1

    def begin(self) -> Outbox:
        """See Exchange."""
        return {self._server.terms.helper: encode(self._server.terms)}

    def take(self, leg: Leg, update: Update) -> None:
        """See Exchange."""
        count = self.layout.count
        if leg == "mask":
            require_vector(update, MASKED, count, read(update.message, Masked).vector)
        elif leg == "release":
            require_vector(update, CORRECTION, count, read(update.message, Correction).vector)
        self._server.take(update.site, update.message)
        if leg == "release":
            self._correction = update.parts[CORRECTION].blob

    def close(self) -> Outbox:
        """See Exchange."""
        return self._server.close()

    def unmasking(self, sums: Manifest) -> Unmasking:
        """See Exchange."""
        return Unmasking(layout=self.layout, sums=sums, correction=self._correction)
