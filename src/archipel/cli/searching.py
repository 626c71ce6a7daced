"""`archipel search`: many simulations of a job, each with other values, and the best of them as a preset to paste.

All that was tried is in .archipel/JOB/search/journal.log, an Optuna journal that its dashboard reads too. The same
command goes on there after any interruption, and after `trials` was raised; for other parameters, code or rows it
begins another study in the same file. A trial is judged on the validation rows; the test rows are left for the end.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path
from typing import Literal

from msgspec import structs
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from archipel import __version__
from archipel.cli import wording
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.interrupts import check
from archipel.cli.local import LocalRun
from archipel.cli.naming import near, program
from archipel.cli.populating import code_of, dataset_of
from archipel.cli.report.screen import figure
from archipel.data.manifest import digest_files, list_files
from archipel.data.stores.spool import full_disk_named
from archipel.simulation.clock.opening import simulation_of
from archipel.simulation.search.driver import EXECUTOR, WHY, Search
from archipel.simulation.search.messages import Opening
from archipel.simulation.search.space import Space
from archipel.simulation.search.study import Study, Trial, direction_of, require_search
from archipel.spec import DataError, SpecError, StateError, TaskError, Value, digest_of, encode
from archipel.spec.job import Scalar

_SHOWN = 5


class Searched(Value, frozen=True, kw_only=True, tag_field="type", tag="search/1"):
    """What a search has come to; search.json is its canonical form."""

    version: str
    """Of archipel."""
    job: str
    study: str
    """Its name in the journal."""
    code: str
    """Digest of the task's bundle."""
    data: str
    """Digest of the data set's files."""
    seed: int
    """Of every trial."""
    metric: str
    """On the validation rows."""
    direction: Literal["maximize", "minimize"]
    executor: str
    executor_why: str
    trials: tuple[Trial, ...]
    best: Trial
    preset: str
    """The best trial's values as TOML."""
    seconds: float
    """Wall time of the command that finished it."""


def search_job(
    job_file: Path, presets: tuple[str, ...], data: Path | None, console: Console, *, workers: int, as_json: bool
) -> None:
    """Make the trials that are left, show them, and print the best.

    Raises:
        SpecError: the job's [search] is not possible.
        TaskError: no trial came to its end.
        StateError: another search of this job works in this folder.
        MissingExtraError: Optuna is not installed.
    """
    require_search()
    if workers < 1:
        raise SpecError(f"{workers} workers make no trial", hint="give --workers 1 or more")
    local = LocalRun(job_file, presets, data, console)
    space = Space(local.job)
    rows = dataset_of(local, data)
    if not rows.exists():
        raise DataError(f"there is no data set at {rows}", hint="give its path with --data")
    place = local.fleet.folder / "search"
    with Fleet(place).lock() as mine:
        if not mine:
            hint = "wait for it, or give this command a folder of its own to work in"
            raise StateError(f"another search of {local.job.name!r} is under way here", hint=hint)
        searched = _Shown(local, space, rows, place, console).run(workers)
    words = [program(), "simulate", str(job_file), *(word for name in presets for word in ("--preset", name))]
    given = [] if data is None else ["--data", str(data)]
    told = shlex.join([*words, "--preset", "best", *given])
    console.print(f"\nthen, for its figures on the test rows:\n{told}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print(encode(searched).decode())


class _Shown:
    """One search, told to a person or a tool."""

    def __init__(self, local: LocalRun, space: Space, rows: Path, place: Path, console: Console) -> None:
        self._local = local
        self._space = space
        self._rows = rows
        self._place = place
        self._console = console
        self._code = code_of(local)
        self._data = digest_files(list_files(rows))[0]
        for left in place.glob("controls-*"):  # of workers that were killed
            shutil.rmtree(left, ignore_errors=True)

    def run(self, workers: int) -> Searched:
        began = time.monotonic()
        study = Study(self._place / "journal.log", self._name(), self._space, seed=self._local.job.federation.seed)
        count, kept = self._space.spec.trials, len(study.trials)
        goal = f"{self._space.spec.metric} on the validation rows, {self._direction}d"
        self._say(f"{count} trials over {', '.join(self._space.parameters)}: {goal}")
        if kept:
            self._say(f"goes on after {kept} trials; to begin anew, delete {near(self._place)}")
        try:
            with Search(study, self._opening(), count=workers) as search, self._bar() as bar:
                shown = bar.add_task("", total=count, told="")
                search.run(lambda news: self._tell(news, bar, shown))
        except KeyboardInterrupt:
            over = len(study.trials)
            raise Interrupted(f"{over} of {count} trials are over and kept; the same command goes on") from None
        searched = self._searched(study, time.monotonic() - began)
        with full_disk_named(self._place):
            (self._place / "search.json").write_bytes(encode(searched))
        self._show(searched)
        return searched

    def _name(self) -> str:
        """Name what must be the same for a search to go on; how many trials it makes may change."""
        job = structs.replace(self._local.job, search=structs.replace(self._space.spec, trials=1))
        digest = digest_of(encode([__version__, job.digest, self._code, self._data]))
        return f"{job.name}-{digest.removeprefix('sha256:')[:12]}"

    def _opening(self) -> Opening:
        prefix = "task.options."
        options = (name.removeprefix(prefix) for name in self._space.parameters if name.startswith(prefix))
        return Opening(
            job=self._space.job_of({}),
            folder=str(self._local.folder),
            data=str(self._rows),
            place=str(self._place),
            executor=simulation_of(self._local.job).executor,
            options=tuple(options),
            metric=self._space.spec.metric,
        )

    @property
    def _direction(self) -> Literal["maximize", "minimize"]:
        return direction_of(self._space.spec.metric, self._space.spec.direction)

    def _bar(self) -> Progress:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("trials {task.fields[told]}"), TimeElapsedColumn())
        return Progress(*columns, console=self._console)

    def _tell(self, study: Study, bar: Progress, shown: TaskID) -> None:
        trials, best = study.trials, study.best
        early = sum(trial.state == "ended early" for trial in trials)
        told = "" if best is None else f"best {best.value:.4f} (trial {best.number}) "
        bar.update(shown, completed=len(trials), told=f"{told}{early} ended early")
        check()

    def _searched(self, study: Study, seconds: float) -> Searched:
        best = study.best
        if best is None:
            why = next((trial.why for trial in reversed(study.trials) if trial.why), "all were ended early")
            hint = f"mend [search.parameters]; {near(self._place / 'journal.log')} keeps what was tried"
            raise TaskError(f"none of {len(study.trials)} trials came to its end: {why}", hint=hint)
        return Searched(
            version=__version__,
            job=self._local.job.name,
            study=self._name(),
            code=self._code,
            data=self._data,
            seed=self._local.job.federation.seed,
            metric=self._space.spec.metric,
            direction=self._direction,
            executor=study.notes[EXECUTOR],
            executor_why=study.notes[WHY],
            trials=study.trials,
            best=best,
            preset=preset_of(best.parameters),
            seconds=seconds,
        )

    def _show(self, searched: Searched) -> None:
        self._console.print(_table(searched))
        counts = {state: sum(trial.state == state for trial in searched.trials) for state in _STATES}
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        self._say(f"\n{len(searched.trials)} trials ({told}); seed {searched.seed}, executor {_executors(searched)}")
        self._say(f"all of them: {near(self._place / 'search.json')}")
        self._say("\nThe best, to paste into the job file:\n")
        self._say(searched.preset)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


_STATES = ("finished", "ended early", "diverged", "failed")


def _table(searched: Searched) -> Table:
    sign = -1.0 if searched.direction == "maximize" else 1.0
    ended = [trial for trial in searched.trials if trial.state == "finished"]
    ranked = sorted(ended, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    title = f"\nThe best trials, {searched.metric} on the validation rows"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="cyan")
    table.add_column("trial", justify="right")
    table.add_column(escape(searched.metric), justify="right")
    table.add_column("rounds", justify="right")
    table.add_column("took", justify="right")
    table.add_column("with")
    for trial in ranked[:_SHOWN]:
        values = ", ".join(f"{_last(name)} {_short(value)}" for name, value in trial.parameters.items())
        cells = (str(trial.number), figure(trial.value, 4), str(trial.rounds), wording.duration(trial.seconds), values)
        table.add_row(*map(escape, cells))
    return table


def _executors(searched: Searched) -> str:
    """Name what trials were computed by; a model that is none for the search's executor is computed by the loop."""
    return ", ".join(sorted({trial.executor for trial in searched.trials if trial.executor}))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _short(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def preset_of(parameters: dict[str, Scalar], name: str = "best") -> str:
    """Return values by dotted key as TOML: a preset that lays them over a job.

    >>> print(preset_of({"federation.local.learning_rate": 0.05, "federation.algorithm": "fedavg"}))
    [preset.best.federation]
    algorithm = "fedavg"
    [preset.best.federation.local]
    learning_rate = 0.05
    """
    tables: dict[str, list[str]] = {}
    for key, value in sorted(parameters.items()):
        table, _, last = key.rpartition(".")
        # JSON's strings, numbers and booleans are TOML's, but for characters that JSON escapes as two, and for one that
        # only TOML does.
        told = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        tables.setdefault(table, []).append(f"{last} = {told}")
    return "\n".join(f"[preset.{name}.{table}]\n" + "\n".join(lines) for table, lines in sorted(tables.items()))
