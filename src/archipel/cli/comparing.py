"""`archipel compare`: simulations of the same data side by side, finished ones and those still to be computed.

    archipel compare job.toml job.toml:prox .archipel/points/simulation --data ROWS

A job is named by its file, with the presets laid over it after a colon; a finished simulation by its result.json or the
folder of it. What is computed here is kept, so the same command goes on after an interruption and computes none twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel import __version__
from archipel.cli import wording
from archipel.cli.answering import stdout_alone
from archipel.cli.curves.exports import NOTHING, Exports
from archipel.cli.curves.page import differs_in_words, render
from archipel.cli.local import LocalRun
from archipel.cli.naming import near
from archipel.cli.planes import HOME
from archipel.cli.populating import code_of, dataset_of, simulate_in, simulated
from archipel.cli.report import html
from archipel.cli.report.screen import figure
from archipel.data.manifest import digest_files, list_files
from archipel.data.stores.spool import full_disk_named
from archipel.simulation.clock.opening import simulation_of
from archipel.simulation.result import Result, differences, read_result
from archipel.spec import DataError, SpecError, Value, encode

RESULT = "result.json"


class Compared(Value, frozen=True, kw_only=True):
    """One of the simulations."""

    name: str
    differs: dict[str, object]
    """Dotted keys of the job that are not the same in all of them → this one's value."""
    result: Result


class SideBySide(Value, frozen=True, kw_only=True, tag_field="type", tag="simulations/1"):
    """Simulations of the same rows."""

    data: str
    """Digest of the rows."""
    seed: int | None
    """Of all of them; None: they have different ones, each in its result."""
    simulations: tuple[Compared, ...]


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one word of the command means."""

    word: str
    finished: Result | None = None
    local: LocalRun | None = None
    rows: Path | None = None
    data: str
    """Digest of its rows."""

    @property
    def name(self) -> str:
        if self.finished is not None:
            return self.finished.job.name
        assert self.local is not None
        _, colon, presets = self.word.partition(".toml:")
        return f"{self.local.job.name}:{presets}" if colon else self.local.job.name


def compare_simulations(
    words: Sequence[str],
    data: Path | None,
    console: Console,
    *,
    executor: str | None = None,
    spread: str | None = None,
    exports: Exports = NOTHING,
    as_json: bool,
) -> None:
    """Compute what is not finished, and show all of them side by side.

    Raises:
        SpecError: a word names no job or result, or one is named twice.
        DataError: they are not of the same data.
        MissingExtraError: what an export needs is not installed.
    """
    if not words:
        raise SpecError("nothing is named to compare", hint="archipel compare JOB.toml JOB.toml:PRESET --data PATH")
    exports.require()
    entries = [_read(word, data, console) for word in words]
    names = _names(entries)
    _require_same_data(dict(zip(names, entries, strict=True)))
    results: dict[str, Result] = {}
    for name, entry in zip(names, entries, strict=True):
        with stdout_alone(as_json=as_json):
            results[name] = entry.finished or _computed(name, entry, console, executor, spread)
    _require_same_test_rows(results)
    beside = _beside(results)
    folder = HOME / "compared"
    with full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compared.json").write_bytes(encode(beside))
        html.write(render(results), folder / "report.html")
    _show(beside, console)
    console.print(f"curves: {near(folder.absolute() / 'report.html')}", highlight=False, markup=False, soft_wrap=True)
    for line in exports.make(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print(encode(beside).decode())


def _read(word: str, data: Path | None, console: Console) -> _Entry:
    file, colon, presets = word.partition(".toml:")
    if not colon and not word.endswith(".toml"):
        path = Path(word)
        finished = read_result(path / RESULT if path.is_dir() else path)
        return _Entry(word=word, finished=finished, data=finished.data)
    job_file = Path(f"{file}.toml" if colon else word)
    local = LocalRun(job_file, tuple(filter(None, presets.split(","))), data, console)
    simulation_of(local.job)
    rows = dataset_of(local, data)
    if not rows.exists():
        raise DataError(f"there is no data set at {rows}", hint="give its path with --data")
    return _Entry(word=word, local=local, rows=rows, data=digest_files(list_files(rows))[0])


def _names(entries: Sequence[_Entry]) -> list[str]:
    """Name each by its job, or as it was written where two would have one name."""
    short = [entry.name for entry in entries]
    names = [name if short.count(name) == 1 else entry.word for name, entry in zip(short, entries, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"{twice[0]} is named twice", hint="name each simulation once")
    return names


def _require_same_data(entries: dict[str, _Entry]) -> None:
    if len({entry.data for entry in entries.values()}) > 1:
        told = "; ".join(f"{name}: {entry.data}" for name, entry in entries.items())
        hint = "compare simulations of the same rows: simulate them with the same --data"
        raise DataError(f"these simulations are not of the same data: {told}", hint=hint)


def _require_same_test_rows(results: dict[str, Result]) -> None:
    counts = {name: int(result.test.get("examples", 0)) for name, result in results.items()}
    if len(set(counts.values())) > 1:
        told = "; ".join(f"{name}: {count}" for name, count in counts.items())
        hint = "let the tasks hold out the same rows; the code that divides them is the task's `read`"
        raise DataError(f"these simulations have not the same number of test rows: {told}", hint=hint)


def _computed(name: str, entry: _Entry, console: Console, executor: str | None, spread: str | None) -> Result:
    assert entry.local is not None
    assert entry.rows is not None
    digest = simulated(entry.local).digest
    place = entry.local.fleet.folder / "compared" / digest.removeprefix("sha256:")[:12]
    kept = read_result(place / RESULT) if (place / RESULT).exists() else None
    same = (__version__, digest, code_of(entry.local), entry.data)
    if kept is not None and (kept.version, kept.job_digest, kept.code, kept.data) == same:
        console.print(f"{name}: computed before", highlight=False, markup=False, soft_wrap=True)
        return kept
    console.print(f"{name}:", highlight=False, markup=False, soft_wrap=True)
    return simulate_in(place, entry.local, entry.rows, console, executor=executor, spread=spread)


def _beside(results: dict[str, Result]) -> SideBySide:
    told = differences(tuple(result.job for result in results.values()))
    seeds = {result.seed for result in results.values()}
    return SideBySide(
        data=next(iter(results.values())).data,
        seed=seeds.pop() if len(seeds) == 1 else None,
        simulations=tuple(
            Compared(name=name, differs=differs, result=result)
            for (name, result), differs in zip(results.items(), told, strict=True)
        ),
    )


def _show(beside: SideBySide, console: Console) -> None:
    results = [one.result for one in beside.simulations]
    figures = sorted({name for result in results for name in result.test} - wording.COUNTS)
    table = Table(box=None, pad_edge=False, title="\nOn the test rows", title_justify="left", title_style="cyan")
    table.add_column("", no_wrap=True)
    for heading in (*figures, "training loss", "rounds", "took"):
        table.add_column(escape(heading), justify="right")
    for one in beside.simulations:
        result = one.result
        numbers = (*(figure(result.test.get(name), 4) for name in figures), figure(result.loss, 4))
        table.add_row(escape(one.name), *numbers, str(result.rounds), wording.duration(result.seconds))
    console.print(table)
    console.print("\nWhat differs", style="cyan")
    for one in beside.simulations:
        told = differs_in_words(one.differs) or "nothing"
        console.print(f"{one.name}: {told}", highlight=False, markup=False, soft_wrap=True)
    rows = f"{int(results[0].test.get('examples', 0)):,} test rows of data {beside.data}"
    seed = "different seeds" if beside.seed is None else f"seed {beside.seed} for all"
    codes = "" if len({result.code for result in results}) == 1 else "; their code differs"
    console.print(f"\n{rows}; {seed}{codes}", highlight=False, markup=False, soft_wrap=True)
