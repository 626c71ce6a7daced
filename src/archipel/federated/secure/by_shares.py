"""SecAgg+: sites mask for each other, and hold shares of each other's secrets (`security.secagg`).

leg         a site is told             a site answers              when it closes
advertise   Terms                      Advert                      the roster
share       Roster                     Sealed                      who holds shares of whom
mask        Delivery                   Masked, and the vector      who survived: nobody else is in the sum
consent     Survivors                  Consent                     who agreed
release     Consents                   Released                    the masks' keys are known
"""

from __future__ import annotations

from archipel.federated.secure.exchange import Draft, Outbox, require_vector
from archipel.federated.secure.opening import MASKED, Unmasking
from archipel.security import fingerprint
from archipel.security.secagg import Assumptions, Layout, Member, ServerSession, Terms, shape_for
from archipel.security.secagg.messages import Masked, read
from archipel.spec import Leg, Manifest, Update, encode


class ByShares:
    """Control in one session."""

    def __init__(self, draft: Draft) -> None:
        """Draw the terms."""
        terms = Terms(
            run=draft.run,
            round=draft.round,
            attempt=draft.attempt,
            model=draft.model,
            shape=shape_for(len(draft.certificates), Assumptions()),
            layout=draft.layout,
            members=tuple(
                Member(site=site, fingerprint=fingerprint(certificate))
                for site, certificate in sorted(draft.certificates.items())
            ),
        )
        self._server = ServerSession(terms, draft.trust, draft.now)

    @property
    def layout(self) -> Layout:
        """See Exchange."""
        return self._server.terms.layout

    @property
    def members(self) -> int:
        """See Exchange."""
        return len(self._server.terms.members)

    @property
    def least(self) -> int:
        """See Exchange."""
        return self._server.terms.shape.quorum

    def begin(self) -> Outbox:
        """See Exchange."""
        terms = encode(self._server.terms)
        return dict.fromkeys((member.site for member in self._server.terms.members), terms)

    def take(self, leg: Leg, update: Update) -> None:
        """See Exchange."""
        if leg == "mask":
            require_vector(update, MASKED, self.layout.count, read(update.message, Masked).vector)
        self._server.take(update.site, update.message)

    def close(self) -> Outbox:
        """See Exchange."""
        return self._server.close()

    def unmasking(self, sums: Manifest) -> Unmasking:
        """See Exchange."""
        opening = self._server.opening
        return Unmasking(layout=self.layout, sums=sums, added=opening.added, removed=opening.removed)
