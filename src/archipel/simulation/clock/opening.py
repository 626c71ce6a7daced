"""From a job's [simulation.time] to its timeline: what cannot go together is refused before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from archipel.federated.algorithms import algorithm_of
from archipel.federated.fit import averages
from archipel.simulation.clock.devices import Devices, Drawn, Load
from archipel.simulation.clock.fedbuff import Buffered
from archipel.simulation.clock.fleet import Fleet
from archipel.simulation.clock.oort import Oort
from archipel.simulation.clock.partial import PartialRounds
from archipel.simulation.clock.port import Moment, Timeline
from archipel.simulation.clock.rounds import Rounds, Rule, Untimed, over_selected
from archipel.simulation.clock.selection import Anybody, Selection, Tiers
from archipel.simulation.clock.trace import Traced, read_trace
from archipel.simulation.population.port import Population
from archipel.spec import JobSpec, SpecError, TaskError, digest_of
from archipel.spec.job import SimulationSpec
from archipel.spec.timing import (
    ByTiers,
    ByUtility,
    Deadline,
    FedBuff,
    Partial,
    SelectionSpec,
    Synchronous,
    mode_of,
)


def simulation_of(job: JobSpec) -> SimulationSpec:
    """Return the job's [simulation].

    Raises:
        SpecError: it has none.
    """
    if job.simulation is None:
        hint = "add the table [simulation] with clients, cohort and partition"
        raise SpecError(f"job {job.name!r} says nothing of virtual clients", hint=hint)
    return job.simulation


def check_time(job: JobSpec) -> None:
    """Refuse what cannot go together in the job.

    Raises:
        SpecError: the algorithm or one of its options cannot go with the mode; a key has nothing to work on.
    """
    spec = simulation_of(job)
    time = spec.time
    if time is None:
        return
    if spec.sampling != "fixed" or job.privacy.central is not None:
        named = f'sampling = "{spec.sampling}"' if spec.sampling != "fixed" else "[privacy.central]"
        message = f"{named} cannot go with [simulation.time]: who answers in time is no chance of its own"
        raise SpecError(message, hint="leave [simulation.time] out")
    if time.devices.assign == "name" and time.devices.trace is None:
        hint = "name the file as `trace` in [simulation.time.devices], or leave `assign` out"
        raise SpecError('assign = "name" needs a trace', hint=hint)
    if isinstance(time, (FedBuff, Partial)):
        _check_stale(job, time)
    if isinstance(time, FedBuff):
        _check_fedbuff(job, time)


def _check_stale(job: JobSpec, time: FedBuff | Partial) -> None:
    algorithm, named = algorithm_of(job.federation), f'mode = "{mode_of(time)}"'
    if job.federation.robust is not None:
        raise SpecError(
            f"[federation.robust] cannot go with {named}: its rules compare updates of one model, and this folds "
            "updates of several",
            hint='leave the table [federation.robust] out, or take mode = "deadline" in [simulation.time]',
        )
    if algorithm.sent:
        raise SpecError(
            f"{algorithm.name} cannot go with {named}: its clients and server correct each other round by round, and "
            "this folds updates of several rounds",
            hint='take fedavg, fedprox, fedavgm, fedadam or fedyogi, or mode = "deadline" in [simulation.time]',
        )


def _check_fedbuff(job: JobSpec, time: FedBuff) -> None:
    algorithm = algorithm_of(job.federation)
    if time.server_learning_rate != 1 and not averages(algorithm):
        raise SpecError(
            f"{algorithm.name} has a server step of its own, so server_learning_rate of [simulation.time] must stay 1",
            hint="set server_learning_rate in [federation] options",
        )


def check_buffers(job: JobSpec, buffers: Sequence[str]) -> None:
    """Refuse a model with running statistics where updates are scaled.

    Raises:
        TaskError: it has some, and the mode folds late updates.
    """
    time = simulation_of(job).time
    if buffers and isinstance(time, (FedBuff, Partial)):
        raise TaskError(
            f'the model has running statistics ({buffers[0]!r}), which mode = "{mode_of(time)}" would scale by '
            "staleness as if they were weights",
            hint='use LayerNorm or GroupNorm, let trainable() say no to them, or take mode = "deadline"',
        )


def trace_path(job: JobSpec, folder: Path) -> Path | None:
    """Return where the job, whose file lies in `folder`, has its trace of devices; None: it has none."""
    time = simulation_of(job).time
    return None if time is None or time.devices.trace is None else folder / time.devices.trace


def trace_digest(job: JobSpec, folder: Path) -> str:
    """Return the digest of the job's trace; "": it has none, or it is not there."""
    path = trace_path(job, folder)
    return digest_of(path.read_bytes()) if path is not None and path.is_file() else ""


def open_devices(job: JobSpec, population: Population, folder: Path) -> Devices | None:
    """Return the devices of the job's clients; None: the job knows no time.

    Raises:
        DataError: the trace cannot be used; see `clock.trace`.
    """
    time, seed = simulation_of(job).time, job.federation.seed
    if time is None:
        return None
    path = trace_path(job, folder)
    if path is None:
        return Drawn(time.devices, seed)
    return Traced(time.devices, seed, read_trace(path), population)


def open_timeline(
    job: JobSpec, population: Population, devices: Devices | None, load: Load, moment: Moment
) -> Timeline:
    """Return the job's timeline, from `moment` on."""
    spec, seed = simulation_of(job), job.federation.seed
    if spec.time is None:
        return Untimed(population, spec.cohort, seed, moment, sampling=spec.sampling)
    assert devices is not None, "a job with [simulation.time] runs with what open_devices() made of it"
    fleet, rounds = Fleet(population, devices, load, seed), job.federation.rounds
    if isinstance(spec.time, FedBuff):
        return Buffered(
            fleet,
            concurrency=spec.time.concurrency or spec.cohort,
            buffer=spec.time.buffer,
            rounds=rounds,
            moment=moment,
        )
    selection = _selection(spec.time.selection, fleet, moment)
    if isinstance(spec.time, Partial):
        seconds = spec.time.deadline_seconds or fleet.quantile(spec.time.deadline_quantile)
        return PartialRounds(
            fleet,
            selection,
            cohort=spec.cohort,
            seconds=seconds,
            least=spec.time.least_share,
            rounds=rounds,
            moment=moment,
        )
    return Rounds(fleet, selection, rule=_rule(spec.time, spec.cohort), moment=moment)


def most_folded(spec: SimulationSpec) -> int:
    """Return how many clients a round folds, at the most or, where late updates come in, usually."""
    return spec.time.buffer if isinstance(spec.time, FedBuff) else spec.cohort


def _selection(spec: SelectionSpec, fleet: Fleet, moment: Moment) -> Selection:
    if isinstance(spec, ByTiers):
        return Tiers(fleet, tiers=spec.tiers, bias=spec.bias)
    if isinstance(spec, ByUtility):
        preferred, penalty = spec.preferred_quantile, spec.slow_penalty
        return Oort(fleet, preferred=preferred, slow_penalty=penalty, heard=moment.heard)
    return Anybody(fleet)


def _rule(time: Synchronous | Deadline, cohort: int) -> Rule:
    if not isinstance(time, Deadline):
        return Rule(asked=cohort, wanted=cohort)
    seconds = math.inf if time.deadline_seconds is None else time.deadline_seconds
    return Rule(asked=over_selected(time, cohort), wanted=cohort, deadline_seconds=seconds)
