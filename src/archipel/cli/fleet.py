"""Fleet: local sites for a run; a control plane and one agent process a site, in one folder.

    .archipel/islands/
        fleet.json       what the fleet is for, and how far it is (FleetState)
        control/         state of the control plane
        sites/NAME/      a site's own folder: key, certificate, journal
        data/NAME/       a site's rows (where the job prepares them)
        logs/            output of every process
        report.json, report.html

Everything is as between machines: sites join by token, make their keys in their own processes and dial in over TLS.
`ensure` may be called at any time and starts what is not running, so a fleet that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
from msgspec import field, structs

from archipel.cli import processes
from archipel.cli.client import Client
from archipel.cli.interrupts import check
from archipel.cli.planes import OPERATOR, operator_of
from archipel.site.worker.turns import TURNS, turns_of_a_machine
from archipel.spec import ArchipelError, LinkError, SpecError, StateError, Value, decode, encode
from archipel.spec.views import SiteView

_TICK_SECONDS = 0.1
_TAIL_LINES = 12


class FleetState(Value, frozen=True, kw_only=True, tag_field="type", tag="fleet/1"):
    """What a fleet is for, and how far it is."""

    job_file: str
    presets: tuple[str, ...] = ()
    data: str | None = None
    """The --data folder."""
    http_port: int
    sites_port: int
    joined: tuple[str, ...] = ()
    """Sites that have joined."""
    holds: dict[str, str] = field(default_factory=dict)
    """Site → "DATASET=PATH" that it was last started with."""
    run: str | None = None
    """The run under way, or the last one."""
    rows: str | None = None
    """What the run's rows come from (`preparing.Rows.stamp`)."""
    stops: int = 0
    """How often the fleet was told to stop; a command that leads it ends when this grows."""
    reported: str | None = None
    """The last run whose report was written."""
    spent: dict[str, float] = field(default_factory=dict)
    """Phase → wall seconds spent on the present run by the commands so far."""


class Fleet:
    """The processes and files of one job's local sites."""

    def __init__(self, folder: Path, control: Path | None = None) -> None:
        """Name a fleet by its folder; `control` is its control plane's state, if not in there."""
        self.folder = folder
        self.control = folder / "control" if control is None else control
        self.logs = folder / "logs"
        self._handles: dict[str, psutil.Process] = {}

    # ---- memory ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> FleetState | None:
        """What fleet.json says; None: there is no fleet yet."""
        path = self.folder / "fleet.json"
        return decode(path.read_bytes(), FleetState) if path.is_file() else None

    def save(self, state: FleetState) -> None:
        """Write fleet.json, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".fleet.json.{os.getpid()}"
        partial.write_bytes(encode(state))
        partial.replace(self.folder / "fleet.json")

    def change(self, **fields: object) -> FleetState:
        """Change fields of fleet.json and return the new state."""
        state = self.state
        if state is None:
            raise StateError(f"no fleet in {self.folder}", hint="start it with `archipel run JOB`")
        changed = structs.replace(state, **fields)
        self.save(changed)
        return changed

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the fleet for this command; yields False where another command holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # ---- processes -------------------------------------------------------------------------------------------

    def ensure_control(self) -> Client:
        """Start the control plane unless it runs, and return a client of it once it answers."""
        state = self.state
        if state is None:
            raise StateError(f"no fleet in {self.folder}", hint="start it with `archipel run JOB`")
        if "control" not in processes.leaders(self.folder):
            ports = ["--http-port", str(state.http_port), "--sites-port", str(state.sites_port)]
            words = ["-m", "archipel.control", "--state", str(self.control), *ports]
            self._handles["control"] = processes.start(self.folder, "control", words, self.logs / "control.log")
        self._adopt()
        self._wait_for("control", self.answers)
        return Client(operator_of(self.control))

    def start_alone(self, role: str, words: list[str], is_ready: Callable[[], bool]) -> None:
        """Start one process by these words, and return once it is ready; one that has died never is."""
        log = self.logs / f"{role.removeprefix('site/')}.log"
        process = self._handles[role] = processes.start(self.folder, role, words, log)
        self._wait_for(role, lambda: processes.is_alive(process) and is_ready())

    def ensure_sites(self, client: Client, datasets: Mapping[str, Path | None], dataset: str) -> None:
        """Start every site that does not run, joining those that never did; return once all are here.

        A site without a path holds no rows: it helps with others' sums.

        A site that runs with other rows is started again, and one that has no part in `datasets` is ended.
        """
        wanted = {name: "" if path is None else f"{dataset}={path}" for name, path in datasets.items()}
        running = self._end_strangers(client, wanted)
        for name, data in datasets.items():
            if f"site/{name}" not in running:
                self._start_site(client, name, dataset, data)
        self.change(holds=wanted)
        self._adopt()
        for name, data in datasets.items():
            self._await_site(client, name, None if data is None else dataset)

    def _end_strangers(self, client: Client, wanted: dict[str, str]) -> set[str]:
        """End sites that hold something else than is wanted of them; return the roles that go on."""
        state = self.state
        holds = {} if state is None else state.holds
        running = processes.leaders(self.folder).keys()
        strangers = {
            role
            for role in running
            if role.startswith("site/") and holds.get(name := role.removeprefix("site/"), "") != wanted.get(name)
        }
        processes.stop(self.folder, strangers)
        for role in strangers:
            self._handles.pop(role, None)
        while any(f"site/{site.name}" in strangers and site.presence == "here" for site in client.sites()):
            check()
            time.sleep(_TICK_SECONDS)
        return running - strangers

    def _await_site(self, client: Client, name: str, dataset: str | None) -> None:
        self._wait_for(f"site/{name}", lambda: _is_here(client.sites(), name, dataset))
        state = self.state
        if state is not None and name not in state.joined:
            self.change(joined=(*state.joined, name))

    def _start_site(self, client: Client, name: str, dataset: str, data: Path | None) -> None:
        folder = self.folder / "sites" / name
        state = self.state
        token = None
        if state is None or name not in state.joined or _has_expired(folder):
            token = client.invite(name).token
            rows = [] if data is None else ["--data", f"{dataset}={data}"]
            words = ["-m", "archipel.cli.main", "join", "-", *rows, "--folder", str(folder)]
        else:
            from archipel.site.agent.join import register

            register(folder, {} if data is None else {dataset: data})
            words = ["-m", "archipel.site", "--folder", str(folder)]
        self._serve_site(name, words, token)

    def _serve_site(self, name: str, words: list[str], token: str | None = None) -> None:
        role, log = f"site/{name}", self.logs / f"{name}.log"
        extra = {TURNS: turns_of_a_machine(self.folder / "turns")}
        self._handles[role] = processes.start(self.folder, role, words, log, extra=extra, stdin=token)

    def _adopt(self) -> None:
        """Know what runs now; who has died meanwhile stays known, so that it is missed."""
        self._handles |= processes.leaders(self.folder)

    def missing(self) -> list[str]:
        """Return the roles whose process has died since it was started or found."""
        return [role for role, process in self._handles.items() if not processes.is_alive(process)]

    def stop(self, is_urgent: Callable[[], bool] = lambda: False) -> list[str]:
        """End every process of the fleet; sites first, so that they can say goodbye, unless it becomes urgent."""
        state = self.state
        if state is not None:
            self.change(stops=state.stops + 1)
        roles = {role for role, _ in processes.members(self.folder)}
        ended = processes.stop(self.folder, roles - {"control"}, is_urgent)
        return [*ended, *processes.stop(self.folder, None, is_urgent)]

    def tail(self, role: str) -> str:
        """Return the last lines a process printed."""
        path = self.logs / f"{role.removeprefix('site/')}.log"
        if not path.is_file():
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def answers(self) -> bool:
        """Does its control plane answer?"""
        if not (self.control / OPERATOR).is_file():
            return False
        try:
            with Client(operator_of(self.control)) as client:
                client.sites()
        except (LinkError, SpecError):
            return False
        return True

    def _wait_for(self, role: str, is_ready: Callable[[], bool]) -> None:
        while not is_ready():
            check()
            process = self._handles.get(role)
            if process is None or not processes.is_alive(process):
                raise self.death_of(role)
            time.sleep(_TICK_SECONDS)

    def revive(self, role: str) -> None:
        """Start a process of the fleet that has died."""
        if role == "control":
            self.ensure_control()
            return
        name = role.removeprefix("site/")
        folder = self.folder / "sites" / name
        self._serve_site(name, ["-m", "archipel.site", "--folder", str(folder)])

    def death_of(self, role: str) -> ArchipelError:
        """Return the error that says why a process ended, by what it printed last."""
        log = self.logs / f"{role.removeprefix('site/')}.log"
        said = [line.strip() for line in self.tail(role).splitlines() if line.strip()]
        hint = next((line.removeprefix("next:").strip() for line in reversed(said) if line.startswith("next:")), None)
        errors = [line.removeprefix("error: ") for line in said if re.match(r"(error|\w+Error):", line)]
        last = errors[-1] if errors else said[-1] if said else "it printed nothing"
        return StateError(f"{role} ended: {last}", hint=hint or f"its output is in {log}")


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def _has_expired(folder: Path) -> bool:
    """Was the site off for so long that it must join again? Its folder, and what it remembers, stays."""
    from archipel.site.agent.folder import SiteFolder

    identity = SiteFolder(folder).identity()
    return identity is not None and identity.validity()[1].timestamp() < time.time()


def _is_here(sites: tuple[SiteView, ...], name: str, dataset: str | None) -> bool:
    """Is the site here, and with the data set, if it is to hold one?"""
    here = [site for site in sites if site.name == name and site.presence == "here"]
    return any(dataset is None or any(item.dataset == dataset for item in site.datasets) for site in here)
