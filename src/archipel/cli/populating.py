"""`archipel simulate` of a job with [simulation]: virtual clients of one data set, on this machine.

The job's `prepare` makes one folder, or `--data` is the data set. Progress is a bar with examples a second (simulated
time, where there is one) and the time left; every round goes to rounds.jsonl as it ends, and what came out to
result.json beside it. After an interruption the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from archipel import __version__
from archipel.cli import wording
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.interrupts import check, held
from archipel.cli.local import LocalRun
from archipel.cli.timing import TimeTold, describe_rounds
from archipel.data.bundle import pack_bundle
from archipel.data.stores.spool import full_disk_named
from archipel.simulation.checkpoint import Checkpoints
from archipel.simulation.choosing import Choice, choose_executor
from archipel.simulation.clock.opening import check_time, most_folded, open_devices, simulation_of, trace_path
from archipel.simulation.opening import open_here
from archipel.simulation.population.partitions import open_population
from archipel.simulation.population.port import Population
from archipel.simulation.spread.choice import INLINE, processes_of, spread_over
from archipel.simulation.spread.messages import Opening
from archipel.simulation.virtual import RoundRecord, VirtualRun
from archipel.spec import DataError, StateError, decode, digest_of, encode
from archipel.tasks.port import Adapter, Executor

_ANEW = "no round was finished; the same command begins anew"


def simulate_population(
    local: LocalRun, data: Path | None, executor: str | None, spread: str | None, console: Console, *, as_json: bool
) -> None:
    """Run the job here, show its progress and print what came out.

    Raises:
        DataError: there is not exactly one data set, or the trace of devices cannot be used.
        SpecError: `spread` says nothing we know, or the job's virtual time cannot go with its algorithm.
        StateError: another simulation of this job works in this folder.
    """
    count = processes_of(spread or INLINE)
    check_time(local.job)
    rows = _dataset(local, data)
    adapter, digest = open_here(local.job, local.folder, rows)
    place = local.fleet.folder / "simulation"
    with Fleet(place).lock() as mine:
        if not mine:
            hint = "wait for it, or give this command a folder of its own to work in"
            raise StateError(f"another simulation of {local.job.name!r} is under way here", hint=hint)
        checkpoints = Checkpoints(place / "checkpoint.safetensors", _key(local, digest))
        try:
            _Shown(local, adapter, rows, place, console, checkpoints).run(executor, count, as_json=as_json)
        except KeyboardInterrupt:
            with held():
                step = checkpoints.flush()
            raise Interrupted(f"the same command goes on after round {step}" if step else _ANEW) from None


def _dataset(local: LocalRun, data: Path | None) -> Path:
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


def _key(local: LocalRun, rows: str) -> str:
    """Name what must be the same for a simulation to go on: job, code, rows, devices and version."""
    bundle = pack_bundle(local.folder, local.job.task.include)
    trace = trace_path(local.job, local.folder)
    devices = digest_of(trace.read_bytes()) if trace is not None and trace.is_file() else ""
    return digest_of(encode([__version__, local.job.digest, digest_of(bundle), rows, devices]))


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
    ) -> None:
        self._job = local.job
        self._spec = simulation_of(local.job)
        self._folder = local.folder
        self._rows = rows
        self._adapter = adapter
        self._place = place
        self._console = console
        self._checkpoints = checkpoints

    def run(self, executor: str | None, count: int | None, *, as_json: bool) -> None:
        began = time.monotonic()
        population = open_population(self._spec, self._job.federation.seed, self._adapter.split.train)
        devices = open_devices(self._job, population, self._folder)
        controls = self._place / "controls"
        run = VirtualRun(self._job, self._adapter, population, controls, self._checkpoints, devices)
        choice = self._choose(run, executor)
        cohort = min(most_folded(self._spec), population.count)
        self._say(
            f"{population.count:,} clients by {self._spec.partition}, {describe_rounds(self._spec, population.count)}"
        )
        self._say(f"executor {choice.executor.name}: {choice.why}")
        if count is not None:
            self._say(f"spread over {count} process{'es' if count > 1 else ''}")
        if run.step:
            self._say(f"goes on after round {run.step}; to begin anew, delete {self._place}")
        like, opening = run.weights.vector, self._opening(choice)
        with spread_over(count, choice.executor, opening, like=like, cohort=cohort, place=self._place) as spread:
            records = self._rounds(run, spread)
        answer = self._describe(run, choice, population, records, time.monotonic() - began)
        answer["processes"] = count or 1
        with full_disk_named(self._place):
            (self._place / "result.json").write_bytes(encode(answer))
            (self._place / "model.safetensors").write_bytes(run.packed())
        self._checkpoints.clear()
        if as_json:
            print(encode(answer).decode())
            return
        figures = ", ".join(f"{name} {value:.4f}" for name, value in answer["test"].items() if name != "examples")
        self._say(f"test: {figures}")
        for line in answer["simulated"].lines() if "simulated" in answer else ():
            self._say(line)
        self._say(f"{len(records)} rounds, {wording.duration(answer['seconds'])}; model {answer['model_digest']}")

    def _choose(self, run: VirtualRun, executor: str | None) -> Choice:
        if run.step and executor not in {None, run.executor}:
            message = f"the {run.step} rounds there are were computed by {run.executor}"
            raise StateError(message, hint=f"leave --executor out to go on, or delete {self._place} to begin anew")
        wanted = executor or run.executor or self._spec.executor
        return choose_executor(wanted, self._adapter, run.weights, run.plans(1))

    def _opening(self, choice: Choice) -> Opening:
        return Opening(job=self._job, folder=str(self._folder), data=str(self._rows), executor=choice.executor.name)

    def _rounds(self, run: VirtualRun, executor: Executor) -> list[RoundRecord]:
        journal = self._place / "rounds.jsonl"
        records = _records(journal, run.step)
        with _bar(self._console) as bar, journal.open("ab") as file:
            shown = bar.add_task("", total=self._job.federation.rounds, completed=run.step, told="")
            for record in run.rounds(executor):
                records.append(record)
                with full_disk_named(self._place):
                    file.write(encode(record) + b"\n")
                    file.flush()
                run.keep()
                bar.update(shown, advance=1, told=_told(record))
                check()
        return records

    def _describe(
        self, run: VirtualRun, choice: Choice, population: Population, records: list[RoundRecord], seconds: float
    ) -> dict[str, Any]:
        time = self._spec.time
        return {
            **({} if time is None else {"simulated": TimeTold.of(str(time.__struct_config__.tag), records)}),
            "model_digest": digest_of(run.packed()),
            "executor": choice.executor.name,
            "executor_why": choice.why,
            "clients": population.count,
            "rounds": len(records),
            "examples": sum(record.examples for record in records),
            "loss": records[-1].loss,
            "test": run.figures("test"),
            "seconds": seconds,
        }

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


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


def _told(record: RoundRecord) -> str:
    loss = "" if record.loss is None else f" loss {record.loss:.4f}"
    scored = "".join(f" {name} {value:.4f}" for name, value in (record.figures or {}).items() if name == "accuracy")
    if record.simulated:
        return f"{loss}{scored} {wording.duration(record.simulated.at_seconds)} simulated"
    return f"{loss}{scored} {record.examples / max(record.seconds, 1e-9):,.0f} examples/s"
