"""The last step of a run with local sites: ask every site, lay the figures side by side, write and show the report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from msgspec import structs
from rich.console import Console

from archipel import __version__
from archipel.cli.asking import ask, in_words
from archipel.cli.client import Client
from archipel.cli.local import LocalRun, Pooled
from archipel.cli.naming import near, program
from archipel.cli.report.build import build_report
from archipel.cli.report.page import write_page
from archipel.cli.report.screen import show_report
from archipel.cli.report.values import Provenance, Report
from archipel.spec import ArchipelError, ServedModel, encode
from archipel.spec.views import RunProgress, RunReport, RunView, SiteView

_PACKAGES = ("numpy", "torch", "jax", "onnxruntime", "grpcio", "msgspec")
_SERVING_SECONDS = 60.0
_TICK_SECONDS = 0.05


def finish(local: LocalRun, client: Client, ended: RunProgress, pooled: Pooled) -> None:
    """Ask, build, write report.json and report.html in the fleet's folder, show, and name the next commands."""
    run, console = ended.run, local.console
    with local.phase("serve"):
        answers = _ask_all(_await_serving(client, ended, local), run, local) if _serves(local) else {}
    found = client.report(run.id)
    phases = _phases(local.spent, found)
    report = build_report(
        found,
        pooled,
        phases,
        _provenance(found, len(_taking_part(ended))),
        finished_at=time.time(),
        answers=answers,
        refusals=client.refusals(run.id),
        question={name: list(values) for name, values in local.job.deployment.question.items()},
    )
    page = write_report(report, local.fleet.folder)
    show_report(report, console)
    _show_way_on(report, page, client.operator.url, local, console)


def finish_elsewhere(client: Client, ended: RunProgress, folder: Path, console: Console) -> None:
    """Write and show the report of a run whose sites are not processes of this machine; nobody is asked anything."""
    found = client.report(ended.run.id)
    made = _provenance(found, len(_taking_part(ended)))
    report = build_report(
        found,
        None,
        _phases({"run": found.seconds}, found),
        structs.replace(made, machine=f"the sites' own; control at {client.operator.url}", versions=_versions(())),
        finished_at=time.time(),
        refusals=client.refusals(ended.run.id),
    )
    page = write_report(report, folder)
    show_report(report, console)
    _show_place(page, console)


def write_report(report: Report, folder: Path) -> Path:
    """Write report.json and report.html and return the page's path."""
    import msgspec

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(msgspec.json.format(encode(report), indent=2) + b"\n")
    page = folder / "report.html"
    write_page(report, page)
    return page


def _serves(local: LocalRun) -> bool:
    return local.job.deployment.serve != "none"


def _taking_part(ended: RunProgress) -> set[str]:
    """Return the run's sites without its refused ones: those that were ordered to serve."""
    return {site.site for site in ended.sites if site.status != "refused"}


def _await_serving(client: Client, ended: RunProgress, local: LocalRun) -> tuple[SiteView, ...]:
    until = time.monotonic() + _SERVING_SECONDS
    names = _taking_part(ended)
    while True:
        sites = tuple(site for site in client.sites() if site.name in names)
        waiting = [site for site in sites if site.presence == "here" and not _served(site, ended.run)]
        if not waiting or time.monotonic() > until:
            return sites
        local.supervise()
        time.sleep(_TICK_SECONDS)


def _served(site: SiteView, run: RunView) -> ServedModel | None:
    wanted = (run.job, run.model_version)
    return next((item for item in site.serving if (item.name, item.version) == wanted), None)


def _ask_all(sites: tuple[SiteView, ...], run: RunView, local: LocalRun) -> dict[str, str]:
    question = local.job.deployment.question
    answers: dict[str, str] = {}
    if not question:
        return answers
    for site in sites:
        served = _served(site, run)
        if served is None or not served.url:
            answers[site.name] = "serves nothing yet"
            continue
        try:
            answers[site.name] = f"{in_words(ask(served.url, run.job, question))} ({served.copy})"
        except ArchipelError as error:
            answers[site.name] = f"no answer: {error.message}"
    return answers


def _phases(spent: Mapping[str, float], run: RunReport) -> dict[str, float]:
    """Return phase → wall seconds: the fleet's own, with the run taken apart as control saw it."""
    inside = {f"run: {name}": seconds for name, seconds in run.seconds_by_phase.items()}
    rest = max(spent.get("run", 0.0) - sum(inside.values()), 0.0)
    phases: dict[str, float] = {}
    for name, seconds in spent.items():
        if name == "run":
            phases |= {**inside, "run: between rounds": rest}
        else:
            phases[name] = seconds
    return phases


def _provenance(found: RunReport, taking_part: int) -> Provenance:
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    return Provenance(
        job=found.run.job_digest,
        bundle=found.run.bundle,
        participation=f"{taking_part} of {len(found.sites)} sites, {found.rounds} training rounds",
        executor="loop",
        machine=machine,
        versions=_versions(_PACKAGES),
    )


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    versions = {"archipel": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _show_place(page: Path, console: Console) -> None:
    shown = near(page)
    console.print(f"\nreport: {shown}   {shown.with_suffix('.json')}", highlight=False, markup=False, soft_wrap=True)


def _show_way_on(report: Report, page: Path, url: str, local: LocalRun, console: Console) -> None:
    _show_place(page, console)
    console.print("the sites keep serving; next:", style="bold")
    name = program()
    lines = [(f"{name} status", "sites, runs and what is served")]
    if local.job.deployment.question and report.sites:
        asked = shlex.quote(encode(local.job.deployment.question).decode())
        lines.append((f"{name} predict {report.model_name} --site {_asked_site(report)} --input {asked}", ""))
    lines += [(f"{url}/schema", "the API's documentation (its certificate is the fleet's own)")]
    lines += [(f"{name} stop", "end all processes; the folder stays")]
    for command, purpose in lines:
        line = f"  {command}" + (f"   # {purpose}" if purpose else "")
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _asked_site(report: Report) -> str:
    """Return a site that serves: the last one that took part."""
    return next((site.name for site in reversed(report.sites) if not site.absent), report.sites[-1].name)
