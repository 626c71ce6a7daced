"""Control's side of one sum under secure aggregation, leg by leg, as the coordinator drives it.

    leg         a site is told             a site answers              when it closes
    compute     its task                   what its vector will hold   the terms are drawn: who, threshold, layout
    advertise   Terms                      Advert                      the roster
    share       Roster                     Sealed                      who holds shares of whom
    mask        Delivery                   Masked, and the vector      who survived: nobody else is in the sum
    consent     Survivors                  Consent                     who agreed
    release     Consents                   Released                    `unmasking`: the sum can be opened

Each leg is a round of the run like any other: kept before it is acted on, counted once, asked again after a crash. The
session is a function of the answers in their order. It has no clock: that certificates hold today is seen by TLS, and
by the sites; here they must hold at the moment the youngest of them was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from archipel.federated.secure.legs import LEAST_SITES, number_of
from archipel.federated.secure.opening import MASKED, WORD, Unmasking
from archipel.federated.secure.vector import Prepared, fields_of
from archipel.security import expiry_of, fingerprint
from archipel.security.secagg import Assumptions, Layout, Member, ServerSession, Terms, Trust, shape_for
from archipel.security.secagg.messages import Masked, read
from archipel.spec import (
    Blob,
    JobSpec,
    Kind,
    Leg,
    SecureAggregationError,
    ShapeError,
    SpecError,
    TaskError,
    Update,
    decode,
    encode,
)


class SecureSum:
    """One attempt at one sum."""

    def __init__(
        self,
        run: str,
        job: JobSpec,
        kind: Kind,
        step: int,
        attempt: int,
        *,
        trust: Trust,
        subject: Blob,
        sites: int,
        most_weight: float,
    ) -> None:
        """Begin; `subject` is what sites work from, `sites` the most that may take part, `most_weight` of one site."""
        self._run = run
        self._job = job
        self._number = number_of(kind, step)
        self._attempt = attempt
        self._trust = trust
        self._subject = subject
        self._sites = sites
        self._bound = 2.0 ** math.ceil(math.log2(max(1.0, most_weight)))
        self._prepared: dict[str, Prepared] = {}
        self._server: ServerSession | None = None
        self._asked: dict[str, bytes] = {}
        self._masked: dict[str, Update] = {}

    @property
    def asked(self) -> Mapping[str, bytes]:
        """What each site that is asked in the open leg is told."""
        return self._asked

    @property
    def quorum(self) -> int:
        """Sites that must answer each leg of the protocol."""
        return LEAST_SITES if self._server is None else self._server.terms.shape.quorum

    @property
    def members(self) -> int:
        """Sites that the terms name; before they are drawn, those that have something to add."""
        return len(self._prepared if self._server is None else self._server.terms.members)

    @property
    def survivors(self) -> tuple[str, ...]:
        """Sites whose vectors are in the sum, once that is settled."""
        return tuple(sorted(self._masked))

    @property
    def vectors(self) -> tuple[Update, ...]:
        """The survivors' answers with their masked vectors, by site."""
        return tuple(self._masked[site] for site in self.survivors)

    def take(self, leg: Leg, update: Update, manifest: str | None) -> None:
        """Take in a site's answer to a leg; `manifest` is the digest of the model's.

        Raises:
            ArchipelError: it does not hold; nothing is changed.
        """
        if leg == "compute":
            self._prepared[update.site] = _prepared(update, self._job, manifest)
            return
        server = self._begun()
        if leg == "mask":
            _require_vector(update, server.terms.layout.count)
        server.take(update.site, update.message)
        if leg == "mask":
            self._masked[update.site] = update

    def close(self, leg: Leg) -> None:
        """Close a leg.

        Raises:
            SpecError, TaskError, SecureAggregationError: the sum cannot go on; the leg stays open.
        """
        self._asked = self._drawn() if leg == "compute" else self._begun().close()

    def unmasking(self) -> Unmasking:
        """Return how the total is read, after the last leg."""
        opening = self._begun().opening
        sums = next(iter(self._prepared.values())).sums
        return Unmasking(layout=self._begun().terms.layout, sums=sums, added=opening.added, removed=opening.removed)

    def _begun(self) -> ServerSession:
        if self._server is None:
            raise SecureAggregationError("out-of-order: no terms are drawn yet", hint="report this: it is a fault")
        return self._server

    def _drawn(self) -> dict[str, bytes]:
        """Draw the terms over the sites that have something to add."""
        prepared = [self._prepared[site] for site in sorted(self._prepared)]
        if len(prepared) < LEAST_SITES:
            message = f"small-cohort: {len(prepared)} sites have something to add, {LEAST_SITES} are needed to hide one"
            raise SecureAggregationError(message, hint="let more sites take part, then resume the run")
        _require_alike(self._prepared)
        members = tuple(
            Member(site=site, fingerprint=fingerprint(self._prepared[site].certificate))
            for site in sorted(self._prepared)
        )
        layout = Layout(
            sites=max(self._sites, len(members)), fields=fields_of(self._job, prepared[0]), weight_bound=self._bound
        )
        terms = Terms(
            run=self._run,
            round=self._number,
            attempt=self._attempt,
            model=self._subject.digest,
            shape=shape_for(len(members), Assumptions()),
            layout=layout,
            members=members,
        )
        youngest = max(expiry_of(one.certificate)[0] for one in prepared)
        self._server = ServerSession(terms, self._trust, youngest)
        return dict.fromkeys((member.site for member in members), encode(terms))


def _prepared(update: Update, job: JobSpec, manifest: str | None) -> Prepared:
    prepared = decode(update.message, Prepared)
    try:
        fingerprint(prepared.certificate)
        expiry_of(prepared.certificate)
    except ValueError as error:
        hint = "run the same archipel version at the site and in control"
        raise SpecError(f"{update.site} sent no certificate", hint=hint) from error
    if prepared.manifest != (manifest if update.kind == "train" else None) or (prepared.manifest is None) != (
        prepared.parameters == 0
    ):
        hint = "let the model's shapes depend on the job and the statistics only"
        raise ShapeError(f"the update of {update.site} has other shapes than the model", hint=hint)
    fields_of(job, prepared)
    return prepared


def _require_alike(prepared: Mapping[str, Prepared]) -> None:
    """Every site adds the same things, or the total means nothing."""
    first = min(prepared)
    for site in sorted(prepared):
        one, other = prepared[first], prepared[site]
        if (one.manifest, one.parameters, one.sums) != (other.manifest, other.parameters, other.sums):
            names = {tensor.name for tensor in one.sums.tensors} ^ {tensor.name for tensor in other.sums.tensors}
            what = f" ({min(names)})" if names else ""
            hint = "let the task return the same sums and shapes at every site"
            raise TaskError(f"{site} has other things to add than {first}{what}", hint=hint)


def _require_vector(update: Update, count: int) -> None:
    part = update.parts.get(MASKED)
    if part is None or not part.shared or part.blob.size_bytes != count * WORD.itemsize:
        message = f"malformed: {update.site} sent no masked vector of {count} words"
        raise SecureAggregationError(message, hint="run the same archipel version at the site and in control")
    if read(update.message, Masked).vector != part.blob.digest:
        message = f"malformed: {update.site} signed another vector than it sent"
        raise SecureAggregationError(message, hint="run the same archipel version at the site and in control")
