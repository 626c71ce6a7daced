"""The run's state machine: events in, instructions out; no clock, no socket, no disk.

    coordinator = Coordinator(run, job, bundle, sites)
    instructions = coordinator.start()                 # Ask … Ask
    coordinator.receipt(update)                        # "accepted" | "duplicate" | "stale", changes nothing
    instructions = coordinator.handle(UpdateAccepted(update=update))     # later a Fold, then the next round's Asks
    coordinator.outstanding()                          # everything open: what to do after a restart or reconnect

The rules it keeps:
  1. The same events give the same state: a driver that records each event before acting on it loses nothing.
     Every instruction is idempotent, so `outstanding()` may be carried out again after a crash.
  2. A round closes by who answered, never by who came first: updates are folded in order of site names.
  3. absent = "wait": a round closes when its whole cohort answered. absent = "quorum": when ceil(quorum * cohort)
     answered and every other site of the cohort is lost or refused.
  4. In check, statistics and initialise a site that refuses leaves the run, by name, while `min_sites` remain; with a
     quorum, so does a site that is away during check or statistics. Later a refusal pauses the run (quorum: only
     once the quorum is out of reach). With a quorum, the global model is exported by the next site that is here
     where the one asked is lost or refuses.
  5. Each update counts once, by (run, round, site); what comes late is refused as stale.
  6. Under secure aggregation each leg of a sum is a round, and asks who answered the one before. An attempt that cannot
     go on gives the run up; RunResumed tries it again with new keys, but for the last leg, in which shares are out.
  7. A pause is a GiveUp; RunResumed forgets the refusals of the open round and asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Literal, get_args

import msgspec

from archipel.federated.algorithms import algorithm_of
from archipel.federated.faults import fault_of, odd_models
from archipel.federated.open_round import Answer, OpenRound, holds
from archipel.federated.port import (
    Ask,
    Explain,
    Finish,
    Fold,
    GiveUp,
    Instruction,
    Outlier,
    RoundFacts,
    RoundFolded,
    RunEvent,
    RunFailed,
    RunResumed,
    RunStopped,
    SiteBack,
    SiteLost,
    SiteRefused,
    UpdateAccepted,
    UpdateRejected,
)
from archipel.federated.progress import Progress, RoundLoss, loss_of
from archipel.federated.robust.cohorts import least_sites, require_sites
from archipel.federated.secure.legs import PROTOCOL, TRIED_AGAIN, legs_of_sum
from archipel.federated.secure_sums import SecureSums
from archipel.federated.stages import (
    PRELUDE,
    Findings,
    Stage,
    checked_participation,
    cohort_of,
    required,
    stages_of,
    task_of,
    tried_again,
)
from archipel.security.privacy import require_private_fit
from archipel.spec import (
    Blob,
    JobSpec,
    Kind,
    Refusal,
    RoundTask,
    StaleError,
    StateError,
    UnknownNameError,
    Update,
)

SHOWN = 20
"""Names in a progress at the most: it is read after each answer, and a cohort may have ten thousand sites."""


class Coordinator:
    """One run; see the module for the rules."""

    def __init__(
        self,
        run: str,
        job: JobSpec,
        bundle: Blob,
        sites: Iterable[str],
        *,
        participation: Sequence[Sequence[str]] | None = None,
        authority: str | None = None,
    ) -> None:
        """Prepare a run over `sites`; with `participation`, its training rounds have exactly these cohorts.

        `authority` is the certificate (PEM) of the sites' authority; without it there is no secure aggregation.

        Raises:
            SpecError: too few sites, bad options, or a participation that does not fit.
        """
        names = tuple(sorted(set(sites)))
        self._algorithm = algorithm_of(job.federation)
        self._job = job
        self._blank = RoundTask(run=run, round=0, site="blank", kind="check", job=job, bundle=bundle)
        require_private_fit(job)
        central = job.privacy.central
        self._found = Findings(sites=names, clip_norm=None if central is None else central.clip_norm)
        self._stages = stages_of(job, statistics=False)
        self._participation = None if participation is None else checked_participation(participation, job, names)
        self._waits = job.federation.absent == "wait" or participation is not None
        self._quorum = None if self._waits else job.federation.quorum
        self._folded: list[tuple[str, ...]] = []
        self._closed: list[tuple[str, ...]] = []
        self._members = frozenset(names)
        self._excluded: dict[str, str] = {}
        self._losses: list[RoundLoss] = []
        self._outliers: tuple[Outlier, ...] = ()
        self._lost: set[str] = set()
        self._pause: GiveUp | None = None
        self._stopped = False
        self._unusable: list[Refusal] = []
        self._least = least_sites(job.federation)
        require_sites(job.federation, len(names))
        self._sums = SecureSums.of(run, job, bundle, authority, names)
        self._round: OpenRound | None = self._opened(self._stages[0])

    # ---- what a driver calls ----------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Number of the round under way, from 0; the count of rounds once the run is over."""
        return len(self._closed)

    @property
    def phase(self) -> Kind | Literal["finished"]:
        """Kind of the round under way."""
        return "finished" if self._round is None else self._round.stage.kind

    @property
    def finished(self) -> bool:
        """Are all rounds closed?"""
        return self._round is None

    @property
    def paused(self) -> bool:
        """Was the run given up or stopped, and not resumed?"""
        return self._stopped or self._pause is not None

    def start(self) -> tuple[Instruction, ...]:
        """Return the first instructions."""
        return self.outstanding()

    def outstanding(self) -> tuple[Instruction, ...]:
        """Return everything that is open; carrying it out twice is harmless."""
        if self._stopped:
            return ()
        if self._pause is not None:
            return (self._pause,)
        if self._round is None:
            return (self._finish(),)
        if self._round.folding:
            return (self._fold(self._round),)
        return tuple(self._ask(site) for site in sorted(self._round.unanswered))

    def receipt(self, answer: Update | Refusal) -> Answer:
        """Say what an answer is worth, without counting it."""
        if answer.run == self._blank.run and answer.round < self.number:
            return "duplicate" if holds(self._closed[answer.round], answer.site) else "stale"
        current = self._round
        if current is None or (answer.run, answer.round) != (self._blank.run, self.number):
            return "stale"
        return current.receipt(answer)

    def handle(self, event: RunEvent) -> tuple[Instruction, ...]:
        """Take in one event; return what is new to do.

        Raises:
            StaleError: an update or refusal of a round that is not open, or of a site that is not asked.
            StateError: a fold that is not under way.
            UnknownNameError: an event nobody knows.
        """
        new = self._handle(event)
        unusable, self._unusable = self._unusable, []
        return (*map(Explain, unusable), *new)

    def _handle(self, event: RunEvent) -> tuple[Instruction, ...]:  # noqa: PLR0911 - one a kind of event
        match event:
            case UpdateAccepted(update=update):
                return self._take_update(update)
            case SiteRefused(refusal=refusal):
                return self._take_refusal(refusal)
            case UpdateRejected(refusal=refusal):
                return self._withdraw(refusal)
            case SiteLost(site=site):
                return self._lose(site)
            case SiteBack(site=site):
                return self._welcome(site)
            case RoundFolded():
                return self._take_fold(event)
            case RunFailed(message=message, hint=hint):
                return self._give_up(message, hint)
            case RunStopped():
                self._stopped = True
                return ()
            case RunResumed():
                return self._resume()
        known = [kind.__name__ for kind in get_args(RunEvent)]  # type: ignore[unreachable]
        raise UnknownNameError.of("event", type(event).__name__, known)

    def progress(self) -> Progress:
        """Return where the run stands, for people."""
        current = self._round
        return Progress(
            phase=self.phase,
            round=self.number,
            rounds_total=len(self._stages),
            step=len(self._folded) + (1 if current is not None and current.stage.kind == "train" else 0),
            steps_total=self._job.federation.rounds,
            answered=0 if current is None else len(current.answered),
            cohort=0 if current is None else len(current.cohort),
            waiting=() if current is None else tuple(islice(current.unanswered, SHOWN)),
            lost=tuple(sorted(self._lost & self._members.union(self._job.helpers))),
            losses=tuple(self._losses),
            outliers=self._outliers,
            excluded=dict(self._excluded),
            paused=self._pause.message if self._pause else ("stopped" if self._stopped else ""),
            leg=None if current is None else current.stage.leg,
        )

    @property
    def participation(self) -> tuple[tuple[str, ...], ...]:
        """For each closed training round, the sites whose updates were folded."""
        return tuple(self._folded)

    @property
    def evaluations(self) -> tuple[tuple[int, Blob], ...]:
        """Training round and added sums of each intermediate evaluation so far."""
        return tuple(self._found.evaluations)

    # ---- events -----------------------------------------------------------------------------------------------

    def _take_update(self, update: Update) -> tuple[Instruction, ...]:
        current = self._require_open(update)
        if current is None:
            return ()
        if self._sums is not None and current.stage.leg is not None:
            fault = self._sums.take(current.stage.leg, update, self._found.manifest)
        else:
            fault = fault_of(update, current.stage, self._algorithm, self._found.manifest)
        if fault is not None:
            self._unusable.append(fault)
            return self._take_refusal(fault)
        current.answered[update.site] = update
        current.refused.pop(update.site, None)
        current.settle(update.site)
        return self._advance(current)

    def _take_refusal(self, refusal: Refusal) -> tuple[Instruction, ...]:
        current = self._require_open(refusal)
        if current is None:
            return ()
        current.refused[refusal.site] = refusal
        current.settle(refusal.site)
        return self._advance(current)

    def _withdraw(self, refusal: Refusal) -> tuple[Instruction, ...]:
        current = self._round
        if current is None or refusal.round != self.number or not current.folding:
            raise StateError(f"round {refusal.round} is not being folded", hint="ask outstanding() what is")
        if refusal.site not in current.answered:
            raise StateError(f"{refusal.site} has no update in round {refusal.round}", hint="name a site of the fold")
        del current.answered[refusal.site]
        current.refused[refusal.site] = refusal
        current.folding = False
        return self._advance(current)

    def _lose(self, site: str) -> tuple[Instruction, ...]:
        self._lost.add(site)
        current = self._round
        if current is None or self._waits or site not in current.unanswered:
            return ()
        current.away.add(site)
        return self._advance(current)

    def _welcome(self, site: str) -> tuple[Instruction, ...]:
        self._lost.discard(site)
        current = self._round
        if current is None:
            return ()
        if site not in current.unanswered:
            return self._advance(current)
        current.away.discard(site)
        return () if self.paused or current.folding else (self._ask(site),)

    def _take_fold(self, event: RoundFolded) -> tuple[Instruction, ...]:
        if event.round < self.number:
            return ()
        current = self._round
        if current is None or event.round > self.number or not current.folding:
            raise StateError(f"round {event.round} is not being folded", hint="ask outstanding() what is")
        self._keep(current, event)
        return self._next(current)

    def _resume(self) -> tuple[Instruction, ...]:
        self._stopped = False
        was_given_up, self._pause = self._pause is not None, None
        current = self._round
        if current is None or current.folding:
            return self.outstanding()
        if was_given_up and current.stage.leg in TRIED_AGAIN:
            return self._try_again(current)
        for site in tuple(current.refused):
            current.ask_again(site, away=not self._waits and site in self._lost)
        self._advance(current)
        return self.outstanding()

    # ---- rounds -----------------------------------------------------------------------------------------------

    def _advance(self, current: OpenRound) -> tuple[Instruction, ...]:
        """Close the round if it can be closed, give up if it cannot become so."""
        if current.folding or self.paused:
            return ()
        instead = self._substitute(current)
        prelude = current.stage.kind in PRELUDE and current.stage.leg not in PROTOCOL
        needed = self._needed(current)
        possible = len(current.cohort) - len(current.refused)
        if current.refused and possible < needed:
            return self._give_up(*current.first_refusal())
        if current.awaited or len(current.answered) < needed:
            return instead or self._starved(current, needed)
        if prelude and not self._exclude(current):
            return self._give_up(*current.first_refusal())
        return self._close(current)

    def _close(self, current: OpenRound) -> tuple[Instruction, ...]:
        if self._sums is not None and current.stage.leg is not None:
            trouble = self._sums.close(current.stage.leg)
            if trouble is not None:
                return self._give_up(f"{current.stage.kind}: {trouble.message}", trouble.hint)
        if current.stage.folds:
            current.folding = True
            return (self._fold(current),)
        self._keep(current, None)
        return self._next(current)

    def _substitute(self, current: OpenRound) -> tuple[Instruction, ...]:
        """With a quorum, ask another site in the place of the one of a round, where that is lost or has refused."""
        if self._waits or not current.stage.sole or current.answered or current.awaited:
            return ()
        others = [site for site in self._found.sites if site not in current.cohort]
        here = [site for site in others if site not in self._lost]
        # Where nobody is left to wait for, a lost site is better than none: it is asked when it is back.
        chosen = (here or ([] if current.unanswered else others))[:1]
        for site in chosen:
            current.ask_also(site, away=site in self._lost)
        return tuple(map(self._ask, chosen))

    def _starved(self, current: OpenRound, needed: int) -> tuple[Instruction, ...]:
        """Give a secure sum up that lost sites have left without a quorum; other rounds wait for them."""
        if self._sums is None or current.stage.leg not in PROTOCOL or current.awaited:
            return ()
        return self._give_up(*self._sums.too_few(current, needed))

    def _needed(self, current: OpenRound) -> int:
        """Return how many answers the round cannot close without."""
        if self._sums is not None and current.stage.leg in PROTOCOL:
            return len(current.cohort) if self._waits else self._sums.needed(self._job.federation)
        return current.needed(self._least, self._quorum)

    def _try_again(self, current: OpenRound) -> tuple[Instruction, ...]:
        """Put another attempt at a secure sum in the place of the legs that are left of this one."""
        self._stages = tried_again(self._stages, self.number, legs_of_sum(self._job))
        return self._next(current)

    def _exclude(self, current: OpenRound) -> bool:
        """Take out of the run who did not answer a prelude round; False where too few would remain.

        So it is where a site is missing that the participation to be replayed names.
        """
        if current.stage.kind == "initialise":
            for refusal in odd_models(current.answered):
                self._unusable.append(refusal)
                current.refused[refusal.site] = refusal
                del current.answered[refusal.site]
            if len(current.answered) < self._needed(current):
                return False
        # Who is away during initialise stays: its rows are in the statistics, and its deltas' shapes are checked.
        staying = set(current.answered)
        if current.stage.kind == "initialise":
            staying = set(current.cohort) - current.refused.keys()
        if self._participation is not None and not staying.issuperset(chain.from_iterable(self._participation)):
            return False
        self._found.sites = tuple(sorted(staying))
        self._members = frozenset(staying)
        before = {site: reason for site, reason in self._excluded.items() if site not in staying}
        self._excluded = before | current.reasons(staying)
        return True

    def _give_up(self, message: str, hint: str) -> tuple[Instruction, ...]:
        self._pause = GiveUp(message=message, hint=hint)
        return (self._pause,)

    def _keep(self, current: OpenRound, folded: RoundFolded | None) -> None:
        """Write a closed round's results into the findings."""
        stage, names = current.stage, self._names(current)
        if stage.kind == "check":
            wanted = any(update.metrics.get("statistics") for update in current.answered.values())
            self._stages = stages_of(self._job, statistics=wanted)
        if folded is not None and stage.kind == "train":
            if self._algorithm.state:
                required(folded.state, folded)
            self._folded.append(names)
            told = [folded.metrics] if stage.leg else [update.metrics for update in current.answered.values()]
            self._losses.append(loss_of(stage.step, told, len(names)))
            self._outliers = folded.outliers
        if folded is not None and stage.kind == "statistics" and stage.leg is not None:
            self._leave_out(frozenset(self._found.sites).difference(names), "away during statistics")
        self._found.keep(stage, current.answered, folded)

    def _leave_out(self, sites: frozenset[str], reason: str) -> None:
        self._members -= sites
        self._found.sites = tuple(sorted(self._members))
        self._excluded.update(dict.fromkeys(sorted(sites), reason))

    def _next(self, current: OpenRound) -> tuple[Instruction, ...]:
        self._closed.append(self._names(current))
        self._round = None
        while self._round is None and self.number < len(self._stages):
            opened = self._opened(self._stages[self.number])
            if opened.cohort:
                self._round = opened
            else:
                self._closed.append(())
        return () if self.paused else self.outstanding()

    def _names(self, current: OpenRound) -> tuple[str, ...]:
        """Return who answered (of a secure sum: who is in it), sorted; one tuple for all rounds in which all did."""
        everybody = self._found.sites
        if self._sums is not None and current.stage.leg == "release":
            return self._sums.open.survivors
        return everybody if len(current.answered) == len(everybody) else tuple(sorted(current.answered))

    def _opened(self, stage: Stage) -> OpenRound:
        lost = frozenset() if self._waits else frozenset(self._lost)
        sites = cohort_of(stage, self._found, self._job.federation, lost)
        if stage.kind == "train" and self._participation is not None:
            sites = self._participation[stage.step - 1]
        if self._sums is not None and stage.leg is not None:
            sites = self._sums.opened(stage, self._found, sites)
        away = set(lost.intersection(sites))
        return OpenRound(stage=stage, cohort=frozenset(sites), unanswered=dict.fromkeys(sites), away=away)

    def _require_open(self, answer: Update | Refusal) -> OpenRound | None:
        """Return the round an answer counts in; None where it was counted before."""
        worth = self.receipt(answer)
        if worth == "stale" or self._round is None:
            hint = "drop the result; the site is asked for what is open"
            raise StaleError(f"round {answer.round} of run {answer.run} does not wait for {answer.site}", hint=hint)
        return self._round if worth == "accepted" else None

    # ---- instructions -----------------------------------------------------------------------------------------

    def _ask(self, site: str) -> Ask:
        assert self._round is not None
        blank = msgspec.structs.replace(self._blank, round=self.number)
        task = task_of(blank, self._round.stage, site, self._found, self._algorithm)
        if self._sums is not None and task.leg in PROTOCOL:
            task = msgspec.structs.replace(task, message=self._sums.open.asked[site])
        return Ask(task=task)

    def _fold(self, current: OpenRound) -> Fold:
        training = current.stage.kind == "train"
        secure = None if self._sums is None or current.stage.leg is None else self._sums.open
        own = tuple(current.answered[site] for site in sorted(current.answered))
        updates = own if secure is None else secure.vectors
        found = self._found
        return Fold(
            round=self.number,
            kind=current.stage.kind,
            updates=updates,
            model=found.model if training else None,
            state=found.state if training else None,
            facts=RoundFacts(step=current.stage.step, cohort=len(updates), population=len(found.sites)),
            clip_norm=found.clip_norm if training else None,
            unmasking=None if secure is None else secure.unmasking(),
        )

    def _finish(self) -> Finish:
        found = self._found
        assert found.model is not None
        who, models = self.participation, found.models()
        return Finish(model=found.model, onnx=found.onnx, sums=found.sums, participation=who, models=models)
