"""The secure sums of a run, one after another, for the coordinator: which one is open, and what it makes of answers."""

from __future__ import annotations

from archipel.federated.clashes import require_secure
from archipel.federated.open_round import OpenRound
from archipel.federated.secure.legs import TRIED_AGAIN, is_secure
from archipel.federated.secure.session import SecureSum
from archipel.federated.stages import Findings, Stage, share_of
from archipel.security.secagg import Trust
from archipel.spec import ArchipelError, Blob, JobSpec, Leg, Refusal, SpecError, StateError, Update
from archipel.spec.job import FederationSpec


class SecureSums:
    """Follows the legs; the open sum's own rules are in `secure.session`."""

    def __init__(self, run: str, job: JobSpec, bundle: Blob, trust: Trust) -> None:
        """Use `of`."""
        self._run = run
        self._job = job
        self._bundle = bundle
        self._trust = trust
        self._open: SecureSum | None = None

    @classmethod
    def of(
        cls, run: str, job: JobSpec, bundle: Blob, authority: str | None, sites: tuple[str, ...]
    ) -> SecureSums | None:
        """Prepare those of a run over `sites`; None for a job without secure aggregation.

        Raises:
            SpecError: the job cannot have what it asks for, or nobody certifies the sites.
        """
        require_secure(job, sites)
        if not is_secure(job):
            return None
        if authority is None:
            hint = "give the certificate of the authority that certifies the sites"
            raise SpecError("secure aggregation without an authority", hint=hint)
        return cls(run, job, bundle, Trust(authority))

    @property
    def open(self) -> SecureSum:
        """The sum under way."""
        if self._open is None:
            raise StateError("no secure sum is under way", hint="report this: it is a fault")
        return self._open

    def opened(self, stage: Stage, found: Findings, cohort: tuple[str, ...]) -> tuple[str, ...]:
        """Open a leg; return who is asked. With the first one, another attempt begins, over the `cohort`."""
        if stage.leg != "compute":
            return tuple(self.open.asked)
        federation = self._job.federation
        fewest = len(cohort) if federation.absent == "wait" else share_of(federation.quorum, len(cohort))
        self._open = SecureSum(
            self._run,
            self._job,
            stage.kind,
            stage.step,
            stage.attempt,
            trust=self._trust,
            subject=found.model or self._bundle,
            sites=len(found.sites),
            fewest=fewest,
            most_weight=1.0 if federation.weighting == "uniform" else found.most_rows,
        )
        return cohort

    def take(self, leg: Leg, update: Update, manifest: str | None) -> Refusal | None:
        """Take in an answer to a leg; return why it cannot be used, if it cannot."""
        try:
            self.open.take(leg, update, manifest)
        except ArchipelError as error:
            return Refusal.of(update, error)
        return None

    def close(self, leg: Leg) -> ArchipelError | None:
        """Close a leg; return why the sum cannot go on, if it cannot."""
        try:
            self.open.close(leg)
        except ArchipelError as error:
            return error
        return None

    def needed(self, federation: FederationSpec) -> int:
        """Return how many must answer a leg of the protocol, with a quorum: what both ask for."""
        return max(self.open.least, share_of(federation.quorum, self.open.members))

    def too_few(self, current: OpenRound, needed: int) -> tuple[str, str]:
        """Return message and hint where the sites that are left cannot close a leg."""
        away = ", ".join(sorted(current.away)[:3]) + (" and others" if len(current.away) > 3 else "")
        message = (
            f"{current.stage.kind}: too-few-sites: {len(current.answered)} of {self.open.members} sites answered in "
            f"leg {current.stage.leg}, {needed} are needed; away: {away}"
        )
        again = ": the sum is tried again with new keys" if current.stage.leg in TRIED_AGAIN else ""
        return message, f"bring them back, then resume the run{again}"
