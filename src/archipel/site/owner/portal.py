"""The owner's portal: jobs that wait for somebody's word, decisions, and what the site refused.

    with open_portal(folder) as portal:
        portal.approvals()
        portal.decide("fe0953696ee8", "approved", by="person/ada")

It works on the site's own folder, also while the agent runs: a decision is logged there, and runs that wait go on by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archipel.site.agent.folder import SiteFolder
from archipel.site.approvals import Approval, Decision
from archipel.site.journal import Journal
from archipel.spec import Event, StateError


class Portal:
    """What one site's folder holds for its owner."""

    def __init__(self, site: str, journal: Journal, clock: Callable[[], float]) -> None:
        self.site = site
        self._journal = journal
        self._clock = clock

    def approvals(self) -> tuple[Approval, ...]:
        """Return every job that was ever put before people here, the first one first."""
        return self._journal.approvals.all()

    def approval(self, name: str) -> Approval:
        """Return the one whose id begins with `name`.

        Raises:
            UnknownNameError: there is none, or there are several.
        """
        return self._journal.approvals.named(name)

    def decide(self, name: str, decision: Decision, *, by: str) -> Approval:
        """Keep a person's decision, in the place of an earlier one, and log it.

        Raises:
            UnknownNameError: nobody was asked about such a job.
        """
        now = self._clock()
        decided = self._journal.approvals.decide(self.approval(name), decision, now=now, by=by)
        detail: dict[str, Any] = {"id": decided.id, "job": decided.job.digest, "bundle": decided.bundle.digest}
        self._journal.log(
            Event(at=now, what=f"site.job.{decision}", actor=f"person/{by}", site=self.site, detail=detail)
        )
        return decided

    def refusals(self) -> tuple[Event, ...]:
        """Return what the site refused; an error if its log was changed."""
        return tuple(event for event in self._journal.logged() if event.what == "site.refused")


@contextmanager
def open_portal(folder: Path, clock: Callable[[], float]) -> Iterator[Portal]:
    """Open the portal of the site in a folder; `clock` gives seconds since the Unix epoch.

    Raises:
        StateError: no site has joined there.
    """
    place = SiteFolder(folder)
    if not place.journal.exists():
        raise StateError(f"no site has joined in {folder}", hint="name the site's own folder")
    journal = Journal(place.journal)
    try:
        yield Portal(place.require_identity().site, journal, clock)
    finally:
        journal.close()
