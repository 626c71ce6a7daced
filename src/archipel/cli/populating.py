"""`archipel simulate` of a job with [simulation]: virtual clients of one data set, on this machine.

The job's `prepare` makes one folder, or `--data` is the data set. Progress is a bar with examples a second (simulated
time, where there is one) and the time left; every round goes to rounds.jsonl as it ends, what came out to result.json
and report.html. After an interruption the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import UNSET, structs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from archipel import __version__
from archipel.cli import wording
from archipel.cli.curves.page import render
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.interrupts import check, held
from archipel.cli.local import LocalRun
from archipel.cli.naming import near
from archipel.cli.report import html
from archipel.cli.report.build import METRICS
from archipel.cli.timing import TimeTold, describe_rounds
from archipel.data.bundle import pack_bundle
from archipel.data.stores.spool import full_disk_named
from archipel.security.privacy import promised
from archipel.simulation.checkpoint import Checkpoints
from archipel.simulation.choosing import Choice, choose_executor
from archipel.simulation.clock.opening import check_time, most_folded, open_devices, simulation_of, trace_digest
from archipel.simulation.clock.report import TimeReport
from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.population.port import Population
from archipel.simulation.result import Result
from archipel.simulation.spread.choice import Inline, Spread, read_spread, spread_over
from archipel.simulation.spread.messages import Opening
from archipel.simulation.virtual import RoundRecord, VirtualRun
from archipel.spec import DataError, JobSpec, StateError, decode, digest_of, encode
from archipel.tasks.port import Adapter, Executor

_ANEW = "no round was finished; the same command begins anew"


def simulate_population(
    local: LocalRun, data: Path | None, console: Console, *, executor: str | None, spread: str | None
) -> Result:
    """Run the job here, show its progress and what came out.

    Raises:
        DataError: there is not exactly one data set, or the trace of devices cannot be used.
        SpecError: `spread` says nothing we know, or the job's virtual time cannot go with its algorithm.
        StateError: another simulation of this job works in this folder.
    """
    check_time(local.job)
    place = local.fleet.folder / "simulation"
    return simulate_in(place, local, dataset_of(local, data), console, executor=executor, spread=spread)


def simulate_in(
    place: Path, local: LocalRun, rows: Path, console: Console, *, executor: str | None, spread: str | None
) -> Result:
    """Simulate the job over `rows` in the folder `place`, which keeps what it leaves, or go on there."""
    where = read_spread(spread or "inline")
    job = simulated(local)
    adapter, digest = open_here(job, local.folder, rows)
    with Fleet(place).lock() as mine:
        if not mine:
            hint = "wait for it, or give this command a folder of its own to work in"
            raise StateError(f"another simulation of {local.job.name!r} is under way here", hint=hint)
        code = code_of(local)
        key = digest_of(encode([__version__, job.digest, code, digest, trace_digest(job, local.folder)]))
        checkpoints = Checkpoints(place / "checkpoint.safetensors", key)
        try:
            return _Shown(local, adapter, rows, place, console, checkpoints, (code, digest)).run(executor, where)
        except KeyboardInterrupt:
            with held():
                step = checkpoints.flush()
            raise Interrupted(f"the same command goes on after round {step}" if step else _ANEW) from None


def simulated(local: LocalRun) -> JobSpec:
    """Return the job without its [search], which a simulation passes over."""
    return structs.replace(local.job, search=None)


def code_of(local: LocalRun) -> str:
    """Return the digest of the task's code."""
    return digest_of(pack_bundle(local.folder, local.job.task.include))


def dataset_of(local: LocalRun, data: Path | None) -> Path:
    """Return where the one data set is, prepared by the job's function where it has one.

    Raises:
        DataError: there is not exactly one.
    """
    if local.job.data.prepare is None:
        if data is None:
            hint = "archipel simulate JOB --data PATH"
            raise DataError(f"job {local.job.name!r} has no `prepare` in [data], so it needs --data", hint=hint)
        return data.resolve()
    with local.fleet.lock() as mine:
        folders = local.prepare(mine=mine)
    if len(folders) != 1:
        hint = "let `prepare` make one folder for it: [simulation] divides one data set"
        raise DataError(f"`{local.job.data.prepare}` made {len(folders)} folders", hint=hint)
    return next(iter(folders.values()))


class _Shown:
    """One simulation, told to a person or a tool."""

    def __init__(  # noqa: PLR0917 - each is a different thing
        self,
        local: LocalRun,
        adapter: Adapter,
        rows: Path,
        place: Path,
        console: Console,
        checkpoints: Checkpoints,
        digests: tuple[str, str],
    ) -> None:
        self._job = simulated(local)
        self._spec = simulation_of(self._job)
        self._folder = local.folder
        self._rows = rows
        self._adapter = adapter
        self._place = place
        self._console = console
        self._checkpoints = checkpoints
        self._code, self._data = digests

    def run(self, executor: str | None, where: Spread) -> Result:
        began = time.monotonic()
        population = open_population(self._spec, self._job.federation.seed, self._adapter.split.train)
        devices = open_devices(self._job, population, self._folder)
        controls = self._place / "controls"
        key = self._place / "noise.key"
        run = VirtualRun(self._job, self._adapter, population, controls, self._checkpoints, devices, key)
        promise = promised(self._job, clients=population.count)
        choice = self._choose(run, executor)
        cohort = min(most_folded(self._spec), population.count)
        self._say(
            f"{population.count:,} clients by {self._spec.partition}, {describe_rounds(self._spec, population.count)}"
        )
        self._say(f"executor {choice.executor.name}: {choice.why}")
        if promise is not None:
            self._say(f"the job will spend: {promise}")
        if run.step:
            self._say(f"goes on after round {run.step}; to begin anew, delete {self._place}")
        like, opening = run.weights.vector, self._opening(choice)
        spread = spread_over(where, choice.executor, opening, like=like, cohort=cohort, place=self._place)
        with spread as (computing, count):
            if where != Inline():
                self._say(f"spread over {count} process{'es' if count > 1 else ''}")
            records = self._rounds(run, computing)
        result = self._describe(run, choice, population, records, began=began, processes=count)
        result = structs.replace(result, privacy=promise or UNSET)
        with full_disk_named(self._place):
            (self._place / "result.json").write_bytes(encode(result))
            (self._place / "model.safetensors").write_bytes(run.packed())
            html.write(render({result.job.name: result}), self._place / "report.html")
        self._checkpoints.clear()
        self._say(f"test: {wording.figures(result.test)}")
        if promise is not None:
            self._say(f"spent: {promise}")
        if self._spec.time is not None:
            for line in TimeTold.of(str(self._spec.time.__struct_config__.tag), records).lines():
                self._say(line)
        self._say(f"{len(records)} rounds, {wording.duration(result.seconds)}; model {result.model_digest}")
        self._say(f"curves: {near(self._place / 'report.html')}")
        return result

    def _choose(self, run: VirtualRun, executor: str | None) -> Choice:
        if run.step and executor not in {None, run.executor}:
            message = f"the {run.step} rounds there are were computed by {run.executor}"
            raise StateError(message, hint=f"leave --executor out to go on, or delete {self._place} to begin anew")
        wanted = executor or run.executor or self._spec.executor
        return choose_executor(wanted, self._adapter, run.weights, run.plans(1))

    def _opening(self, choice: Choice) -> Opening:
        return Opening(
            job=self._job,
            folder=str(self._folder),
            data=str(self._rows),
            digest=self._data,
            executor=choice.executor.name,
        )

    def _rounds(self, run: VirtualRun, executor: Executor) -> list[RoundRecord]:
        journal = self._place / "rounds.jsonl"
        records = _records(journal, run.step)
        scored = next((record for record in reversed(records) if record.figures), None)
        with _bar(self._console) as bar, journal.open("ab") as file:
            shown = bar.add_task("", total=self._job.federation.rounds, completed=run.step, told="")
            for record in run.rounds(executor):
                records.append(record)
                with full_disk_named(self._place):
                    file.write(encode(record) + b"\n")
                    file.flush()
                run.keep()
                scored = record if record.figures else scored
                bar.update(shown, advance=1, told=_told(record, scored))
                check()
        return records

    def _describe(
        self,
        run: VirtualRun,
        choice: Choice,
        population: Population,
        records: list[RoundRecord],
        *,
        began: float,
        processes: int,
    ) -> Result:
        return Result(
            version=__version__,
            job=self._job,
            job_digest=self._job.digest,
            code=self._code,
            data=self._data,
            seed=self._job.federation.seed,
            model_digest=digest_of(run.packed()),
            executor=choice.executor.name,
            executor_why=choice.why,
            processes=processes,
            clients=population.count,
            rounds=len(records),
            examples=sum(record.examples for record in records),
            loss=records[-1].loss,
            test=run.figures("test"),
            seconds=time.monotonic() - began,
            finished_at=time.time(),
            history=tuple(records),
            simulated=UNSET
            if self._spec.time is None
            else TimeReport.of([one.simulated for one in records if one.simulated]),
        )

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _time_of(records: list[RoundRecord]) -> TimeReport:
    return TimeReport.of([record.simulated for record in records if record.simulated])


def _records(journal: Path, step: int) -> list[RoundRecord]:
    """Return the records of the rounds up to `step`, and leave no others in the journal.

    Raises:
        StateError: it has fewer.
    """
    lines = journal.read_bytes().splitlines(keepends=True)[:step] if step else []
    if len(lines) < step:
        message = f"{journal} has {len(lines)} rounds, the checkpoint beside it {step}"
        raise StateError(message, hint="delete the checkpoint, and the simulation begins anew")
    journal.touch()
    os.truncate(journal, sum(map(len, lines)))
    return [decode(line, RoundRecord) for line in lines]


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rounds {task.fields[told]}"), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _told(record: RoundRecord, scored: RoundRecord | None) -> str:
    """Say a round's loss, a figure of the last round that was scored, and how fast it goes."""
    figures = {} if scored is None else scored.figures or {}
    name = next((name for name in METRICS if name in figures), None)
    loss = "" if record.loss is None else f"loss {record.loss:.4f} "
    told = "" if scored is None or name is None else f"{name} {figures[name]:.4f} (round {scored.step}) "
    if record.simulated:
        return f"{loss}{told}{wording.duration(record.simulated.at_seconds)} simulated"
    return f"{loss}{told}{record.examples / max(record.seconds, 1e-9):,.0f} examples/s"
