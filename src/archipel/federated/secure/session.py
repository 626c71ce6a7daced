"""Control's side of one sum under secure aggregation, leg by leg, as the coordinator drives it.

    compute     each site does its task, and says what its vector will hold; with its end the terms are drawn
    the others  those of the job's mode, whose protocol is in `by_shares` or `by_helper`
    release     with its end, `unmasking`: the sum can be opened

Each leg is a round of the run like any other: kept before it is acted on, counted once, asked again after a crash. The
session is a function of the answers in their order. It has no clock: that certificates hold today is seen by TLS, and
by the sites; here they must hold at the moment the youngest of them was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from archipel.federated.secure.by_helper import ByHelper
from archipel.federated.secure.by_shares import ByShares
from archipel.federated.secure.exchange import Draft, Exchange, Outbox
from archipel.federated.secure.legs import LEAST_SITES, number_of
from archipel.federated.secure.opening import Unmasking
from archipel.federated.secure.vector import Prepared, fields_of
from archipel.security import expiry_of, fingerprint
from archipel.security.secagg import Layout, Trust
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
        fewest: int,
        most_weight: float,
    ) -> None:
        """Begin; `subject` is what sites work from, `most_weight` that of one site.

        `sites` is the most that may take part, `fewest` how many the job wants in the sum.
        """
        self._run = run
        self._job = job
        self._number = number_of(kind, step)
        self._attempt = attempt
        self._trust = trust
        self._subject = subject
        self._sites = sites
        self._fewest = fewest
        self._bound = 2.0 ** math.ceil(math.log2(max(1.0, most_weight)))
        self._prepared: dict[str, Prepared] = {}
        self._exchange: Exchange | None = None
        self._asked: Outbox = {}
        self._masked: dict[str, Update] = {}

    @property
    def asked(self) -> Mapping[str, bytes]:
        """What each site that is asked in the open leg is told."""
        return self._asked

    @property
    def least(self) -> int:
        """Fewest that must answer the open leg of the protocol."""
        return LEAST_SITES if self._exchange is None else self._exchange.least

    @property
    def members(self) -> int:
        """How many the terms ask in the open leg; before they are drawn, how many have something to add."""
        return len(self._prepared) if self._exchange is None else self._exchange.members

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
        self._begun().take(leg, update)
        if leg == "mask":
            self._masked[update.site] = update

    def close(self, leg: Leg) -> None:
        """Close a leg.

        Raises:
            ArchipelError: too few answers to go on, or no terms can be drawn over them; the leg stays open.
        """
        self._asked = self._drawn() if leg == "compute" else self._begun().close()

    def unmasking(self) -> Unmasking:
        """Return how the total is read, after the last leg."""
        return self._begun().unmasking(next(iter(self._prepared.values())).sums)

    def _begun(self) -> Exchange:
        if self._exchange is None:
            raise SecureAggregationError("out-of-order: no terms are drawn yet", hint="report this: it is a fault")
        return self._exchange

    def _drawn(self) -> Outbox:
        """Draw the terms over the sites that have something to add."""
        prepared = {site: self._prepared[site] for site in sorted(self._prepared)}
        if len(prepared) < LEAST_SITES:
            message = f"small-cohort: {len(prepared)} sites have something to add, {LEAST_SITES} are needed to hide one"
            raise SecureAggregationError(message, hint="let more sites take part, then resume the run")
        _require_alike(prepared)
        fields = fields_of(self._job, next(iter(prepared.values())))
        draft = Draft(
            run=self._run,
            round=self._number,
            attempt=self._attempt,
            model=self._subject.digest,
            helper=self._job.privacy.helper or "",
            fewest=self._fewest,
            layout=Layout(sites=max(self._sites, len(prepared)), fields=fields, weight_bound=self._bound),
            certificates={site: one.certificate for site, one in prepared.items()},
            trust=self._trust,
            now=max(expiry_of(one.certificate)[0] for one in prepared.values()),
        )
        self._exchange = ByHelper(draft) if self._job.privacy.secure_aggregation == "two-server" else ByShares(draft)
        return self._exchange.begin()


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
