"""`archipel up` and `archipel stop`: control planes and fleets on this machine, started and ended."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from archipel.cli import processes
from archipel.cli.fleet import Fleet
from archipel.cli.interrupts import held
from archipel.cli.planes import HOME, OPERATOR, Control, OperatorFile, State, connect, find_state, operator_of, remember
from archipel.cli.sealing import seal_from_the_start
from archipel.spec import StateError

_TICK_SECONDS = 0.05


def up(
    *,
    state: Annotated[Path, Parameter(help="Folder of everything the control plane keeps.")] = HOME / "control",
    http_port: Annotated[int | None, Parameter(help="Port for people and tools.")] = None,
    sites_port: Annotated[int | None, Parameter(help="Port for sites.")] = None,
    host: Annotated[str | None, Parameter(help="Address to listen on; 127.0.0.1, if not given.")] = None,
    name: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="Name or address that sites call it by, for its certificate; repeatable."),
    ] = (),
    key: Annotated[
        str | None, Parameter(help="URL of the key that blobs are encrypted under; a new key file, if not given.")
    ] = None,
    oidc: Annotated[Path | None, Parameter(help="File that names an OIDC issuer whose people may log in.")] = None,
    detach: Annotated[bool, Parameter(negative="", show_default=False, help="Start it in the background.")] = False,
) -> None:
    """Start a control plane here, in the foreground unless --detach.

    Its state folder holds operator.json, the right to speak to it: copy that file to whoever operates it from
    elsewhere. Ctrl-C ends it; nothing is lost, and the next `up` goes on where it was.
    """
    words = ["-m", "archipel.control", "--state", str(state)]
    words += ["--http-port", str(http_port)] if http_port is not None else []
    words += ["--sites-port", str(sites_port)] if sites_port is not None else []
    words += ["--host", host] if host is not None else []
    words += ["--oidc", str(oidc)] if oidc is not None else []
    words += ["--key", key] if key is not None else []
    words += [word for each in name for word in ("--name", each)]
    plane = Fleet(state.resolve(), control=state.resolve())
    runs = bool(processes.leaders(plane.folder)) or plane.answers()
    if not runs:
        seal_from_the_start(state, key, Console(stderr=True))
    if not detach:
        raise SystemExit(_foreground(plane, words))
    if runs:
        raise StateError(f"the control plane of {state} runs already", hint="`archipel status` shows it")
    plane.start_alone("control", words, plane.answers)
    remember(plane.folder)
    address = operator_of(state).url
    said = f"control plane at {address}, in the background; `archipel stop` ends it"
    Console().print(said, highlight=False, markup=False)


def _foreground(plane: Fleet, words: list[str]) -> int:
    environment = processes.marked(plane.folder, "control")
    with subprocess.Popen([*processes.PYTHON, *words], env=environment) as child:  # noqa: S603 - our own module
        try:
            while child.poll() is None and not plane.answers():
                time.sleep(_TICK_SECONDS)
            if child.poll() is None:
                remember(plane.folder)
            return child.wait()
        except KeyboardInterrupt:
            with held():
                child.terminate()  # the terminal has interrupted it too, but SIGTERM came to this process alone
                child.wait()
            raise


def stop(
    run: Annotated[str | None, Parameter(help="Stop this run only; `resume` goes on with it.")] = None,
    /,
    *,
    everything: Annotated[
        bool,
        Parameter(
            name="--all", negative="", show_default=False, help="End the processes of all fleets in this directory."
        ),
    ] = False,
    folder: Annotated[
        Path | None, Parameter(help="End the site that serves from this folder, and nothing else.")
    ] = None,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
) -> None:
    """Stop a run, or (with no run named) end all processes of the local fleet.

    Folders stay: what was trained, reported and registered is kept, and the next `run` or `resume` goes on with it.
    """
    console = Console()
    if run is not None:
        with connect(state, control, operator) as client:
            stopped = client.stop(run)
        console.print(f"run {stopped.id}: {stopped.state}; `archipel resume {stopped.id}` goes on", highlight=False)
        return
    if folder is not None:
        folders = [folder.resolve()]
    else:
        folders = _all_fleets() if everything else [_fleet_of(find_state(state))]
    ended = [(place, role) for place in folders for role in Fleet(place).stop()]
    for place, role in ended:
        console.print(f"ended {role} of {place.name}", highlight=False, markup=False)
    if not ended:
        console.print("nothing was running", highlight=False)


def _fleet_of(state: Path) -> Path:
    """Return the fleet a state folder belongs to: the folder around it, or itself for a plane of its own."""
    return state.resolve().parent if (state.parent / "fleet.json").is_file() else state.resolve()


def _all_fleets() -> list[Path]:
    if not HOME.is_dir():
        return []
    inside = [path.resolve() for path in sorted(HOME.iterdir()) if path.is_dir()]
    fleets = [path for path in inside if (path / "fleet.json").is_file() or (path / OPERATOR).is_file()]
    return [*(path for path in sorted((HOME / "sites").resolve().glob("*")) if path.is_dir()), *fleets]
