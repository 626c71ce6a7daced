"""The agent of a site: one process that dials control, does what it is asked, serves, and goes on after anything.

    run_agent(folder)            until SIGTERM or Ctrl-C; `python -m archipel.site --folder FOLDER` is the same

It only dials out. The link is dialled again for ever, with growing, jittered waits; work goes on while it is down. The
agent beats three times a lease, at once when something changes. Killed at any moment, it goes on from its journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

import archipel
from archipel.data.stores.spool import Spool
from archipel.security import load_or_make_key, signing_request
from archipel.security.sealing import open_sealing
from archipel.site.agent.desk import Desk
from archipel.site.agent.folder import AgentStatus, Identity, SiteFolder, require_key, require_valid
from archipel.site.agent.gate import Gate
from archipel.site.agent.line import Line
from archipel.site.agent.shelf import Shelf
from archipel.site.agent.surveyor import Surveyor
from archipel.site.agent.witness import Witness
from archipel.site.journal import Journal
from archipel.site.link.backoff import Backoff
from archipel.site.link.dial import Attendance, Link, dial
from archipel.site.link.gauge import Gauge
from archipel.site.sandbox import survey
from archipel.site.worker.bench import sweep
from archipel.site.worker.noise import NOISE_KEY
from archipel.site.worker.secure import SecureSite
from archipel.spec import ArchipelError, StateError
from archipel.spec.audit import LogGrowth
from archipel.spec.inventory import SiteInventory
from archipel.spec.wire import (
    BUSY_LEASE_SECONDS,
    IDLE_LEASE_SECONDS,
    Assign,
    Beat,
    Cancel,
    ControlMessage,
    Forget,
    Hello,
    Note,
    Serve,
    Welcome,
)
from archipel.tasks.devices.survey import cache_folder

_BEATS_PER_LEASE = 3
_RENEWED_AFTER = 2 / 3
"""Share of a certificate's life after which it is renewed."""
_RENEWAL_CHECK_SECONDS = 60.0
_STATUS_SECONDS = 0.2
_NOTES_KEPT = 100
_LOG = logging.getLogger("archipel.site")


class Agent:
    """A running site; `run` is its life."""

    def __init__(
        self,
        folder: SiteFolder,
        key: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Open the site in `folder`; `key` is the URL of what wraps the spool's data key, None: as its keyring says.

        Raises:
            SpecError: its policy is not valid.
            StateError: no site has joined there, or the machine lacks a wall that its policy requires.
        """
        self._folder = folder
        self._identity = folder.require_identity()
        self._clock = clock
        self._chance = chance
        self._journal = Journal(folder.journal)
        self._spool = Spool(folder.spool, open_sealing(folder.path, key))
        self._line = Line(chance)
        self._notes: list[Note] = []
        self._stirred = asyncio.Event()
        self._leases = (BUSY_LEASE_SECONDS, IDLE_LEASE_SECONDS)
        self._state: Literal["connecting", "connected", "stopped"] = "connecting"
        self._since = clock()
        self._trouble: ArchipelError | None = None
        self._saying: asyncio.TimerHandle | None = None
        shared = {
            "journal": self._journal,
            "spool": self._spool,
            "line": self._line,
            "changed": self._changed,
            "note": self._take_note,
        }
        self._gate = Gate(
            self._identity.site,
            folder.policy,
            journal=self._journal,
            spool=self._spool,
            walls=survey(),
            clock=clock,
            note=self._take_note,
        )
        self._gauge = Gauge()
        self._surveyor = Surveyor(
            folder.path,
            journal=self._journal,
            gauge=self._gauge,
            policy=lambda: self._gate.policy,
            clock=clock,
            cache=cache_folder(),
        )
        self._witness = Witness(self._identity.site, self._journal, clock)
        self._shelf = Shelf(**shared)  # type: ignore[arg-type]
        self._desk = Desk(
            self._identity.site,
            random=chance,
            needed=self._shelf.coming,
            secure=SecureSite(
                self._identity.site,
                load_or_make_key(folder.key),
                lambda: self._identity.certificate.certificate_pem,
                self._identity.certificate.ca_pem,
                self._journal,
                self._spool,
                clock,
                least_sites=lambda: self._gate.least_sites,
                peers=lambda: self._gate.peers,
                helper_pin=self._gate.helper_pin,
                noise_key=folder.path / NOISE_KEY,
            ),
            gate=self._gate,
            **shared,  # type: ignore[arg-type]
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set.

        Raises:
            TrustError: the certificate does not hold, and there is no model to go on serving.
        """
        if not self._journal.served():
            require_valid(self._identity, self._clock())
        self._sweep()
        self._say_walls()
        self._spool.seal_plain()
        self._shelf.restore()
        for work in self._journal.in_hand():
            self._desk.take(work.task)
        surveying = self._surveyor.live(lambda: not self._desk.working(), self._changed)
        life = [asyncio.create_task(part) for part in (self._keep_link(), self._keep_certificate(), surveying)]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*life, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*life, stopping):
                task.cancel()
            ended = await asyncio.gather(*life, return_exceptions=True)
            await self._desk.close()
            await self._shelf.close()
            self._enter("stopped")
            self._journal.close()
        for end in ended:
            if isinstance(end, Exception):
                raise end

    # ---- the link -------------------------------------------------------------------------------------------

    async def _keep_link(self) -> None:
        waits = Backoff(self._chance)
        while True:
            identity = self._identity
            try:
                require_valid(identity, self._clock())
                async with dial(identity.certificate.sites_address, self._folder.credentials(), self._gauge) as link:
                    await self._attend(link, identity, waits)
            except (ArchipelError, OSError) as error:
                if identity is self._identity:  # else it was the agent that hung up
                    self._complain(error)
            self._enter("connecting")
            await asyncio.sleep(waits.next_seconds())

    async def _attend(self, link: Link, identity: Identity, waits: Backoff) -> None:
        attendance = await link.attend(self._hello())
        speaking: asyncio.Task[None] | None = None
        try:
            async for message in attendance:
                if isinstance(message, Welcome):
                    self._leases = (message.busy_lease_seconds, message.idle_lease_seconds)
                    waits.reset()
                    self._trouble = None
                    self._line.connect(link)
                    self._enter("connected")
                    speaking = speaking or asyncio.create_task(self._speak(attendance, identity))
                else:
                    await self._obey(message)
        finally:
            self._line.lose()
            attendance.close()
            if speaking is not None:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)

    async def _obey(self, message: ControlMessage) -> None:
        match message:
            case Assign(task=task):
                self._desk.take(task)
            case Cancel(run=run):
                await self._desk.cancel(run)
            case Forget(run=run):
                self._desk.forget(run)
            case Serve():
                self._shelf.take(message)
            case LogGrowth():
                note = await asyncio.to_thread(self._witness.take, message, self._identity.certificate.ca_pem)
                if note is not None:
                    self._take_note(note)
                self._changed()

    async def _speak(self, attendance: Attendance, identity: Identity) -> None:
        """Say notes, the inventory and what is served at once, and beat three times a lease.

        Once there is a newer certificate than the one the link is made with, hang up: control goes by the link's own,
        so that one link would not outlive it. Transfers that break off go on over the next link.
        """
        clock = asyncio.get_running_loop().time
        due, said = 0.0, self._shelf.serving()
        told: SiteInventory | None = None
        while True:
            self._stirred.clear()
            if identity is not self._identity:
                attendance.close()
                return
            while self._notes:
                await attendance.send(self._notes[0])
                self._notes.pop(0)
            if self._surveyor.current is not None and self._surveyor.current is not told:
                told = self._surveyor.current
                await attendance.send(told)
            working, serving = self._desk.working(), self._shelf.serving()
            pause = self._leases[0 if working else 1] / _BEATS_PER_LEASE
            due = min(due, clock() + pause)
            if clock() >= due or serving != said:
                await attendance.send(Beat(working=working, serving=serving))
                due, said = clock() + pause, serving
            with contextlib.suppress(TimeoutError):
                # Not wait_for: up to Python 3.11 it loses a cancellation that meets the end of what it waits for.
                async with asyncio.timeout_at(due):
                    await self._stirred.wait()

    def _hello(self) -> Hello:
        return Hello(
            site=self._identity.site,
            agent=archipel.__version__,
            datasets=tuple(self._journal.datasets()),
            working=self._desk.working(),
            serving=self._shelf.serving(),
            remembers=self._desk.remembered(),
            witnessed=self._witness.witnessed,
        )

    # ---- the certificate ------------------------------------------------------------------------------------

    async def _keep_certificate(self) -> None:
        while True:
            begins, ends = (moment.timestamp() for moment in self._identity.validity())
            due = begins + (ends - begins) * _RENEWED_AFTER
            if self._clock() < due:
                await asyncio.sleep(min(_RENEWAL_CHECK_SECONDS, due - self._clock()))
                continue
            try:
                await self._renew()
            except (ArchipelError, OSError) as error:
                self._complain(error)
            await asyncio.sleep(_RENEWAL_CHECK_SECONDS * (0.5 + self._chance() / 2))

    async def _renew(self) -> None:
        """Get a fresh certificate for the same key, and dial again with it."""
        request = signing_request(load_or_make_key(self._folder.key), self._identity.site)
        link = await self._line.link()
        certificate = await link.renew(request)
        fresh = msgspec.structs.replace(self._identity, certificate=certificate)
        self._folder.become(fresh)
        self._identity = fresh
        self._changed()

    # ---- what is said about it ------------------------------------------------------------------------------

    def _say_walls(self) -> None:
        """Say how tasks are confined: in the log, and to control where a wall is missing."""
        guard = self._gate.guard
        line = guard.line()
        if guard.is_closed:
            _LOG.info("sandbox: %s", line)
        else:
            self._take_note(Note(what="site.sandbox.partial", level="warning", detail={"sandbox": line}))

    def _sweep(self) -> None:
        """Remove what a crash left behind in the spool; no work is under way yet."""
        live = {digest.removeprefix("sha256:") for digest in self._journal.live()}
        for path in self._spool.folder.glob("??/*"):
            if path.name not in live:
                path.unlink()
        for path in (self._spool.folder / "partial").iterdir():
            if path.name.partition(".")[0] not in live:
                path.unlink()
        sweep(self._folder.path / "bench")

    def _complain(self, error: ArchipelError | OSError) -> None:
        """Remember what keeps the site from going on; each trouble is logged once."""
        if isinstance(error, OSError):
            hint = "free space on that disk, or mend it; the site goes on by itself"
            error = StateError(f"a file of the site cannot be read or written: {error}", hint=hint)
        if self._trouble is None or self._trouble.message != error.message:
            _LOG.warning("%s; %s", error.message, error.hint)
        self._trouble = error
        self._changed()

    def _take_note(self, note: Note) -> None:
        _LOG.log(logging.getLevelNamesMapping()[note.level.upper()], "%s %s", note.what, dict(note.detail))
        self._notes = [*self._notes[-_NOTES_KEPT:], note]
        self._changed()

    def _changed(self) -> None:
        """Something is to be said soon: to control, and in the status, where many changes are one."""
        self._stirred.set()
        if self._saying is None:
            self._saying = asyncio.get_running_loop().call_later(_STATUS_SECONDS, self._say)

    def _enter(self, state: Literal["connecting", "connected", "stopped"]) -> None:
        if state != self._state:
            _LOG.info("%s (%s)", state, self._identity.certificate.sites_address)
            self._state, self._since = state, self._clock()
        self._say()

    def _say(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        trouble = self._gate.trouble or self._trouble
        self._folder.say(
            AgentStatus(
                site=self._identity.site,
                pid=os.getpid(),
                state=self._state,
                since=self._since,
                control=self._identity.certificate.sites_address,
                certificate_until=self._identity.validity()[1].timestamp(),
                working=self._desk.working(),
                serving=self._shelf.serving(),
                sandbox=self._gate.guard.line(),
                witnessed=self._witness.witnessed,
                audit=self._witness.trouble,
                policy=self._gate.in_force,
                error=trouble.message if trouble else "",
                hint=trouble.hint if trouble else "",
            )
        )


def run_agent(path: Path, key: str | None = None) -> None:
    """Run the agent of the folder `path` until SIGTERM or Ctrl-C; `key` as in Agent.

    Raises:
        SpecError: its key is gone.
        StateError: no site has joined there, or another agent runs on it.
        TrustError: the certificate has expired, or the key does not open what is sealed.
    """
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = SiteFolder(path)
    # Before the lock: whoever waits for the agent takes a held folder for one that serves.
    folder.require_identity()
    require_key(folder)
    with folder.locked():
        asyncio.run(_live(folder, key))


async def _live(folder: SiteFolder, key: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Agent(folder, key).run(stop)
