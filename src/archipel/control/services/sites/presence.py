"""Who is here: streams, leases and progress. Lives in memory only; a site that reconnects says it all again.

A lease runs from the last sign of life (any message, any piece of a blob) by the monotonic clock: one second for a
site that holds work, thirty for an idle one. When it ends the site is lost, until its next sign of life; the stream
stays, for the site may only have been stopped for a while.

Time comes in as an argument of the monotonic clock; callers on several threads are served one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import msgspec

from archipel.spec import ServedModel
from archipel.spec.views import Presence
from archipel.spec.wire import BUSY_LEASE_SECONDS, IDLE_LEASE_SECONDS, Cancel, ControlMessage, Forget, Working

Send = Callable[[ControlMessage | None], None]
"""Hands a message to a site's stream, from any thread; None ends the stream."""


class Attendance(msgspec.Struct, kw_only=True):
    """A site with an open stream."""

    site: str
    send: Send
    seen: float
    """Monotonic seconds of the last sign of life."""
    datasets: tuple[str, ...] = ()
    working: tuple[Working, ...] = ()
    serving: tuple[ServedModel, ...] = ()
    assigned: set[str] = msgspec.field(default_factory=set)
    """Runs that wait for this site."""
    lost: bool = False
    witnessed: int = 0
    """Entries of the audit log the site was shown last, or said that it knows."""
    shown: float = 0.0
    """Monotonic seconds of that."""
    greeted: bool = False
    """Was it shown a head on this stream?"""


class Attendances:
    """All open streams, by site."""

    def __init__(self, *, busy_seconds: float = BUSY_LEASE_SECONDS, idle_seconds: float = IDLE_LEASE_SECONDS) -> None:
        self.busy_seconds = busy_seconds
        self.idle_seconds = idle_seconds
        self._here: dict[str, Attendance] = {}
        self._gone: dict[str, float] = {}
        """Sites without a stream whose lease still runs → when it ends."""
        self._lock = threading.RLock()

    def enter(self, attendance: Attendance) -> None:
        """A site has said Hello; an older stream of the same site is ended."""
        with self._lock:
            older = self._here.get(attendance.site)
            self._here[attendance.site] = attendance
            self._gone.pop(attendance.site, None)
        if older is not None:
            older.send(None)

    def leave(self, attendance: Attendance) -> bool:
        """A stream has ended; was it the site's present one? Its lease goes on for the site to come back."""
        with self._lock:
            present = self._here.get(attendance.site) is attendance
            if present:
                del self._here[attendance.site]
                if not attendance.lost:
                    self._gone[attendance.site] = attendance.seen + self._lease(attendance)
            return present

    def expect(self, sites: Iterable[str], now: float) -> None:
        """These sites were here before this process began: they have an idle lease to come back."""
        with self._lock:
            for site in sites:
                if site not in self._here:
                    self._gone.setdefault(site, now + self.idle_seconds)

    def touch(self, site: str, now: float) -> bool:
        """Note a sign of life; was the site lost until now?"""
        with self._lock:
            attendance = self._here.get(site)
            if attendance is None:
                return False
            attendance.seen = max(attendance.seen, now)
            back, attendance.lost = attendance.lost, False
            return back

    def note_piece(self, site: str, now: float) -> None:
        """A piece of a blob goes by: the lease runs on. That a lost site is back, the next `touch` says."""
        with self._lock:
            attendance = self._here.get(site)
            if attendance is not None:
                attendance.seen = max(attendance.seen, now)

    def expire(self, now: float) -> tuple[str, ...]:
        """Return the sites whose lease has ended since the last call."""
        with self._lock:
            ended = [item for item in self._here.values() if not item.lost and now - item.seen > self._lease(item)]
            for attendance in ended:
                attendance.lost = True
            away = [site for site, until in self._gone.items() if now > until]
            for site in away:
                del self._gone[site]
            return tuple(sorted([attendance.site for attendance in ended] + away))

    def assign(self, site: str, run: str, message: ControlMessage, now: float) -> None:
        """Push work to a site if it is here; its busy lease begins now."""
        with self._lock:
            attendance = self._here.get(site)
            if attendance is None:
                return
            if not attendance.assigned:
                attendance.seen = max(attendance.seen, now)
            attendance.assigned.add(run)
        attendance.send(message)

    def release(self, site: str, run: str) -> None:
        """The run waits for nothing from this site any more."""
        with self._lock:
            attendance = self._here.get(site)
            if attendance is not None:
                attendance.assigned.discard(run)

    def push(self, site: str, message: ControlMessage) -> None:
        """Say something to a site if it is here."""
        attendance = self.get(site)
        if attendance is not None:
            attendance.send(message)

    def dismiss(self, sites: Iterable[str], message: Cancel | Forget) -> None:
        """Let these sites drop the work of a run."""
        for site in sites:
            self.release(site, message.run)
            self.push(site, message)

    def disconnect(self, site: str) -> None:
        """End a site's stream (its certificate no longer holds)."""
        attendance = self.get(site)
        if attendance is not None:
            attendance.send(None)

    def get(self, site: str) -> Attendance | None:
        """Return a site's open stream."""
        with self._lock:
            return self._here.get(site)

    def present(self) -> tuple[str, ...]:
        """Return the sites whose lease runs, by name."""
        with self._lock:
            return tuple(sorted(site for site, item in self._here.items() if not item.lost))

    def presence(self, site: str) -> Presence:
        """Say whether a site is here."""
        attendance = self.get(site)
        if attendance is None:
            return "away"
        return "lost" if attendance.lost else "here"

    def is_lost(self, site: str) -> bool:
        """Does no lease of this site run? A stream that broke a moment ago still has one."""
        with self._lock:
            attendance = self._here.get(site)
            return site not in self._gone if attendance is None else attendance.lost

    def _lease(self, attendance: Attendance) -> float:
        return self.busy_seconds if attendance.assigned else self.idle_seconds
