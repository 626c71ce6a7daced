"""`archipel status` and `archipel logs`: what is there, and what happened."""

from __future__ import annotations

import datetime as dt
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from archipel.cli import wording
from archipel.cli.interrupts import check
from archipel.cli.planes import Control, Json, OperatorFile, State, connect
from archipel.spec import Event, StateError, encode
from archipel.spec.views import RunView, SiteView
from archipel.spec.wire import Working

_PRESENCE = {"here": "green", "lost": "red", "away": "yellow", "revoked": "red"}
_STATES = {"finished": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "paused": "yellow"}
_LEVELS = {"info": "dim", "warning": "yellow", "error": "red"}
_POLL_SECONDS = 0.5


def status(
    *,
    folder: Annotated[Path | None, Parameter(help="Folder of a site here: show what its agent says instead.")] = None,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Show the control plane's sites and runs; with --folder, what one site's agent is doing.

    A site's own word comes from its folder and not from the control plane: it also says whether the control plane's
    audit log still fits what the site saw of it.
    """
    if folder is not None:
        _show_agent(folder, as_json=as_json)
        return
    with connect(state, control, operator) as client:
        sites, runs = client.sites(), client.runs()
        address = client.operator.url
    if as_json:
        print(encode({"control": address, "sites": sites, "runs": runs}).decode())
        return
    console = Console()
    console.print(f"control plane at {address}", highlight=False, markup=False)
    console.print(_sites(sites) if sites else "no sites: `archipel invite SITE` makes a token for one", highlight=False)
    console.print(_runs(runs) if runs else "no runs: `archipel run JOB` starts one", highlight=False)


def _show_agent(folder: Path, *, as_json: bool) -> None:
    from archipel.site.agent.folder import read_status

    agent = read_status(folder)
    if agent is None:
        raise StateError(f"no agent has run in {folder}", hint="name the folder that `archipel join` made")
    if as_json:
        print(encode(agent).decode())
        return
    console = Console()
    lines = [f"site {agent.site}: {agent.state} ({agent.control})"]
    lines += [f"working on {_work(item)}" for item in agent.working]
    lines += [f"error: {agent.error}", f"next:  {agent.hint}"] if agent.error else []
    lines.append(f"policy {agent.policy}" if agent.policy else "no policy: what control asks is done")
    lines += [f"sandbox: {agent.sandbox}"] if agent.sandbox else []
    seen = f"audit log: {agent.witnessed} entries witnessed"
    lines.append(f"{seen}; the newest head is REFUSED: {agent.audit}" if agent.audit else seen)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def logs(
    *,
    follow: Annotated[
        bool, Parameter(name=["--follow", "-f"], negative="", show_default=False, help="Go on as things happen.")
    ] = False,
    run: Annotated[str | None, Parameter(help="Only what belongs to this run.")] = None,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Show what happened, as control and sites said it; with --json one event a line."""
    console = Console()
    last = 0
    with connect(state, control, operator) as client:
        while True:
            for number, event in client.all_events(last, run):
                last = number
                _show(event, console, as_json=as_json)
            if not follow:
                return
            sys.stdout.flush()
            check()
            time.sleep(_POLL_SECONDS)


def _show(event: Event, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(encode(event).decode())
        return
    when = dt.datetime.fromtimestamp(event.at, tz=dt.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    line = Text(f"{when} ", style="dim")
    line.append(f"{event.what:<24} ", style=_LEVELS[event.level])
    line.append(" ".join(part for part in (event.actor, event.run, event.site) if part))
    facts = " ".join(f"{name}={_fact(value)}" for name, value in event.detail.items())
    line.append(f"  {facts}", style="dim")
    console.print(line, soft_wrap=True)


def _work(item: Working) -> str:
    return f"{item.run} {wording.standstill(item.waits) or wording.share(item.done)}"


def _fact(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _sites(sites: tuple[SiteView, ...]) -> Table:
    table = Table("site", "", "data sets", "working on", "serving", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for site in sites:
        rows = [
            item.dataset + (f" ({wording.count(item.manifest.rows)} rows)" if item.manifest else "")
            for item in site.datasets
        ]
        working = [_work(item) for item in site.working]
        serving = [escape(f"{item.name} v{item.version} {item.copy} {item.url}".strip()) for item in site.serving]
        presence = f"[{_PRESENCE[site.presence]}]{site.presence}[/]"
        table.add_row(site.name, presence, ", ".join(rows) or "—", ", ".join(working) or "—", ", ".join(serving) or "—")
    return table


def _runs(runs: tuple[RunView, ...]) -> Table:
    table = Table("run", "job", "", "sites", "model", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for run in runs:
        colour = _STATES.get(run.state, "dim")
        model = f"{run.job} v{run.model_version}" if run.model_version else "—"
        message = Text(run.message)
        table.add_row(run.id, run.job, f"[{colour}]{run.state}[/]", str(len(run.sites)), model, message)
    return table
