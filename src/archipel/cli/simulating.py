"""`archipel simulate`: the same job with all sites in this process, by the same worker code.

The data are prepared as for a run with local sites, and shared with it. What comes out is named by the digest of its
weights: equal to the live run's for the same job, data and participation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from archipel import __version__
from archipel.cli import wording
from archipel.cli.answering import stdout_alone
from archipel.cli.curves.exports import NOTHING, Exports
from archipel.cli.curves.panels import loss_panel, losses_of
from archipel.cli.curves.picture import draw
from archipel.cli.failure import Interrupted
from archipel.cli.fleet import Fleet
from archipel.cli.interrupts import check
from archipel.cli.local import LocalRun
from archipel.cli.populating import simulate_population
from archipel.cli.watching import Lines, describe_phase
from archipel.data.bundle import pack_bundle
from archipel.federated.outliers import described
from archipel.federated.progress import Progress
from archipel.simulation.driver import Outcome, Simulation
from archipel.spec import Blob, DataError, SpecError, StateError, digest_value, encode, unpack
from archipel.tasks.metrics import summarise
from archipel.tasks.threads import settle_threads


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Who took part in a run that is to be replayed."""

    cohorts: tuple[tuple[str, ...], ...]
    """For each training round, the sites whose updates were folded."""
    sites: tuple[str, ...] = ()
    """Sites whose rows the run stood on (its statistics too), where the record says so."""

    def of(self, folders: Mapping[str, Path]) -> dict[str, Path]:
        """Return the folders of the sites that were in the run: who was left out adds nothing to its statistics.

        Raises:
            DataError: a site that was in it has no folder here.
        """
        missing = sorted(set(self.sites) - folders.keys())
        if missing:
            hint = "give --data the rows of every site that was in the run"
            raise DataError(f"no data here of {', '.join(missing)}", hint=hint)
        return {name: path for name, path in folders.items() if not self.sites or name in self.sites}


def simulate_job(
    job_file: Path,
    presets: tuple[str, ...],
    data: Path | None,
    participation: Path | None,
    console: Console,
    *,
    executor: str | None = None,
    spread: str | None = None,
    exports: Exports = NOTHING,
    as_json: bool,
) -> None:
    """Run the job here, show its progress and print what came out.

    Raises:
        DataError: a site that the job or the record names has no rows here.
        StateError: another simulation of this job works in this folder.
        MissingExtraError: what an export needs is not installed.
    """
    exports.require()
    local = LocalRun(job_file, presets, data, console)
    if (executor, spread) != (None, None) and local.job.simulation is None:
        hint = "its sites are computed one after another, as live ones; leave --executor and --spread out"
        raise SpecError(f"job {local.job.name!r} has no [simulation], so how it is computed is not chosen", hint=hint)
    if (exports.tensorboard, exports.mlflow) != (None, None) and local.job.simulation is None:
        hint = "its curves are drawn by --curves; leave --tensorboard and --mlflow out"
        raise SpecError(f"job {local.job.name!r} has no [simulation], whose rounds could be exported", hint=hint)
    with stdout_alone(as_json=as_json):
        answer = _computed(local, data, participation, console, exports, executor=executor, spread=spread)
    if as_json:
        print(answer.decode())


def _computed(
    local: LocalRun,
    data: Path | None,
    participation: Path | None,
    console: Console,
    exports: Exports,
    *,
    executor: str | None,
    spread: str | None,
) -> bytes:
    """Compute it, make what is wanted of it, and return what came out as JSON."""
    name = local.job.name
    if local.job.simulation is not None:
        result = simulate_population(local, data, console, executor=executor, spread=spread)
        for line in exports.make({name: result}):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return encode(result)
    told = _simulate(local, participation, console)
    if exports.curves is not None:
        draw([loss_panel({name: losses_of(told["history"])})], exports.curves, title=name)
        console.print(f"picture: {exports.curves}", highlight=False, markup=False, soft_wrap=True)
    return encode(told)


def _simulate(local: LocalRun, participation: Path | None, console: Console) -> dict[str, Any]:
    settle_threads(local.job.task.framework)
    with local.fleet.lock() as mine:
        folders = chosen(local.prepare(mine=mine), local.job.federation.sites)
    recorded = None if participation is None else read_participation(participation, local.job.name)
    place = local.fleet.folder / "simulation"
    with Fleet(place).lock() as mine:
        if not mine:
            hint = "wait for it, or give this command a folder of its own to work in"
            raise StateError(f"another simulation of {local.job.name!r} is under way here", hint=hint)
        simulation = Simulation(
            local.job,
            pack_bundle(local.folder, local.job.task.include),
            folders if recorded is None else recorded.of(folders),
            place,
            participation=None if recorded is None else recorded.cohorts,
            key=digest_value([__version__, local.job.digest, local.rows.stamp, sorted(folders), recorded]),
        )
        try:
            return _report(simulation, local.job.name, len(folders), console)
        except KeyboardInterrupt:
            raise Interrupted("the same command goes on with the sites' answers there are") from None


def chosen(folders: Mapping[str, Path], names: Sequence[str]) -> dict[str, Path]:
    """Return the folders of the sites that [federation] sites names; of all, where it names none.

    Raises:
        DataError: a name without a folder.
    """
    missing = sorted(set(names) - folders.keys())
    if missing:
        hint = "mend `sites` in [federation], or give --data a folder for each of them"
        raise DataError(f"no data here of {', '.join(missing)}, which [federation] sites names", hint=hint)
    return {name: path for name, path in folders.items() if not names or name in names}


def _report(simulation: Simulation, name: str, sites: int, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    outcome = simulation.run(_Lines(console, sites))
    answer = describe(outcome, simulation, time.monotonic() - began)
    console.print(f"\n{len(answer['sites'])} sites together; on held-out rows:", highlight=False)
    for model, figures in answer["models"].items():
        console.print(f"  {_named(model)}: {wording.figures(figures)}", highlight=False, markup=False, soft_wrap=True)
    rounds, took = len(outcome.participation), wording.duration(answer["seconds"])
    console.print(f"{rounds} rounds; nothing moved: all sites in this process; {took} in all", highlight=False)
    named = f"model {name}, weights {answer['model_digest']}"
    console.print(named, highlight=False, soft_wrap=True)
    return answer


def _named(model: str) -> str:
    way, _, site = model.partition("/")
    return f"{way} at {site}" if site else way


def describe(outcome: Outcome, simulation: Simulation, seconds: float) -> dict[str, Any]:
    """Return what came out, for people and tools; figures are over all sites' test rows the model was scored on."""
    return {
        "model_digest": outcome.model.digest,
        "participation": [list(cohort) for cohort in outcome.participation],
        "sites": {site: manifest.rows for site, manifest in sorted(outcome.datasets.items())},
        "models": _figures(outcome.sums, simulation),
        "history": list(outcome.progress.losses),
        "sent_bytes": outcome.sent,
        "seconds": seconds,
    }


def read_participation(path: Path, name: str) -> Recorded:
    """Read who took part in each training round: a list of lists of names, or anything that `models --json` printed.

    Of several models, the newest of this name is meant.
    """
    try:
        record: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise SpecError(f"{path} is not JSON: {error}", hint="mend the file") from error
    except FileNotFoundError as error:
        raise SpecError(f"no file {path}", hint='write [["site-a", "site-b"], …], one list a round') from error
    sites: tuple[str, ...] = ()
    if isinstance(record, dict):
        if record.get("models"):
            record = _newest(record["models"], name, path)
        record = record.get("lineage", record)
        sites = tuple(record.get("datasets", ()))
        record = record.get("participation")
    if not isinstance(record, list) or not all(isinstance(cohort, list) for cohort in record):
        raise SpecError(f"{path} holds no participation", hint='write [["site-a", "site-b"], …], one list a round')
    return Recorded(cohorts=tuple(tuple(str(site) for site in cohort) for cohort in record), sites=sites)


def _newest(models: list[dict[str, Any]], name: str, path: Path) -> dict[str, Any]:
    found = next((model for model in models if model.get("name") == name), None)
    if found is None:
        hint = f"write it with `archipel models {name} --json`"
        raise SpecError(f"{path} holds no model {name!r}", hint=hint)
    return found


def _figures(sums: Blob | None, simulation: Simulation) -> dict[str, dict[str, float]]:
    if sums is None:
        return {}
    arrays = unpack(simulation.spool.view(sums.digest))
    models: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for key, value in arrays.items():
        model, _, name = key.partition("|")
        models.setdefault(model, {})[name] = value
    return {model: summarise(found) for model, found in sorted(models.items())}


class _Lines:
    """Says each phase, each closed training round and who takes no part."""

    def __init__(self, console: Console, sites: int) -> None:
        self._console = console
        self._sites = sites
        self._lines = Lines()
        self._excluded: set[str] = set()
        self._rounds = 0

    def __call__(self, progress: Progress) -> None:
        check()
        is_over = progress.phase == "finished"
        standing = "" if is_over else describe_phase(progress.phase, self._sites - len(progress.excluded))
        losses = [item.loss for item in progress.losses]
        for line in self._lines.news(standing, losses, progress.steps_total):
            self._console.print(line, highlight=False, markup=False)
        if len(progress.losses) > self._rounds:
            self._rounds = len(progress.losses)
            for outlier in progress.outliers:
                self._console.print(f"round {self._rounds}: {described(outlier)}", highlight=False, markup=False)
        for site in sorted(progress.excluded.keys() - self._excluded):
            self._excluded.add(site)
            self._console.print(f"{site} takes no part: {progress.excluded[site]}", highlight=False, markup=False)
