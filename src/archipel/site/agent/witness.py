"""Witness: keeps the heads of control's audit log that the site was shown, and refuses one that does not fit them.

A refused head is not kept; the site goes on working, and says so in its own log, in its status and to control. The
refused head goes into the site's log as a whole: with the kept one it is proof, signed by control itself. Where a
person at the site has accepted a log that begins anew (`accept_anew`), the next head is believed as the first was.
"""

from __future__ import annotations

from collections.abc import Callable

from archipel.security.audit import accept, verify_head
from archipel.site.journal import Journal
from archipel.spec import AuditError, Event, StateError, decode, encode
from archipel.spec.audit import LogGrowth
from archipel.spec.wire import Note

REFUSED, ACCEPTED = "site.audit.refused", "site.audit.accepted"


class Witness:
    """What one site has seen of the audit log."""

    def __init__(self, site: str, journal: Journal, clock: Callable[[], float]) -> None:
        self._site = site
        self._journal = journal
        self._clock = clock
        heads = journal.heads()
        self._kept = heads[-1] if heads else None
        self._refused = ""
        self.trouble = ""
        """Why the newest head was refused; empty where it was accepted."""

    @property
    def witnessed(self) -> int:
        """Entries of the log in the newest head that was accepted."""
        return 0 if self._kept is None else self._kept.head.size

    def take(self, growth: LogGrowth, ca_pem: str) -> Note | None:
        """Accept or refuse what control shows; return what is to be said about it, if it was refused.

        Args:
            growth: the newer head and its proof.
            ca_pem: certificate (PEM) of the CA the site was joined to.
        """
        if self.trouble:
            self._kept = next(
                reversed(self._journal.heads()), None
            )  # a person may have accepted a log that begins anew
        try:
            accepted = accept(self._kept, growth, ca_pem)
        except AuditError as error:
            return self._refuse(growth, error)
        if accepted is not self._kept:
            self._journal.keep_head(accepted)
            self._kept = accepted
        self.trouble = self._refused = ""
        return None

    def _refuse(self, growth: LogGrowth, error: AuditError) -> Note | None:
        self.trouble = error.message
        if self._refused == growth.head.head.root:
            return None  # said already; control shows its head again at every greeting
        self._refused = growth.head.head.root
        detail: dict[str, bool | int | float | str | None] = {
            "error": type(error).__name__,
            "message": error.message,
            "witnessed": self.witnessed,
        }
        evidence = {**detail, "offered": encode(growth).decode()}
        actor = f"site/{self._site}"
        said = Event(at=self._clock(), what=REFUSED, actor=actor, level="error", site=self._site, detail=evidence)
        self._journal.log(said)
        return Note(what=REFUSED, level="error", detail=detail)


def accept_anew(journal: Journal, site: str, ca_pem: str, *, by: str, now: float) -> Event:
    """Accept that control's log goes on from the head that was refused last; return what the site's log says of it.

    Both heads stay in the site's log: that they contradict each other can be shown to anybody, ever after.

    Raises:
        StateError: no head was refused since the last one was accepted.
        AuditError: the refused head is not signed by the CA the site was joined to, or the site's log was changed.
    """
    said = [event for event in journal.logged() if event.what in {REFUSED, ACCEPTED}]
    heads = journal.heads()
    if not said or said[-1].what != REFUSED or not heads:
        raise StateError("this site has refused no head", hint="`archipel status --folder FOLDER` shows what it saw")
    offered = decode(str(said[-1].detail["offered"]).encode(), LogGrowth)
    verify_head(offered.head, ca_pem)
    evidence: dict[str, bool | int | float | str | None] = {
        "kept": encode(heads[-1]).decode(),
        "offered": encode(offered.head).decode(),
    }
    event = Event(at=now, what=ACCEPTED, actor=f"person/{by}", level="warning", site=site, detail=evidence)
    journal.forget_heads(event)
    return event
