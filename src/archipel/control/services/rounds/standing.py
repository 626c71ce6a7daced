"""Where a run stands, for people who watch: the coordinator's word, the sites' own progress, bytes and time."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from archipel.control.services.jobs.board import Board
from archipel.control.services.rounds.driver import Driver
from archipel.control.services.rounds.runs import Runs
from archipel.control.services.sites.fleet import Fleet
from archipel.federated.progress import Progress as Course
from archipel.spec import Kind
from archipel.spec.views import RunProgress, RunsPage, RunView, SiteProgress
from archipel.spec.wire import Waits

KINDS: tuple[str, ...] = get_args(Kind)
Status = Literal["working", "done", "refused", "not asked"]


class Standing:
    """Answers how far runs are."""

    def __init__(self, board: Board, runs: Runs, fleet: Fleet) -> None:
        self._board = board
        self._runs = runs
        self._fleet = fleet

    def list(self) -> RunsPage:
        """Return all runs, newest first."""
        return RunsPage(runs=tuple(self._with_trouble(view) for view in self._board.list().runs))

    def show(self, run: str) -> RunView:
        """Return one run."""
        return self._with_trouble(self._board.show(run))

    def progress(self, run: str) -> RunProgress:
        """Return where a run stands now."""
        seq = self.seq(run)
        view = self.show(run)
        if not view.sites:
            return RunProgress(seq=seq, run=view)
        driver = self._runs.find(run)
        course = driver.coordinator.progress() if driver is not None else self._runs.replayed(run).progress()
        moved = self._runs.bytes_of(run)
        fresh_up, fresh_down = (0, 0) if driver is None else driver.traffic.peek()
        is_open = course.phase in KINDS
        return RunProgress(
            seq=seq,
            run=view,
            round=course.round if is_open else None,
            kind=course.phase if is_open else None,  # type: ignore[arg-type]  # checked against KINDS
            step=course.step,
            steps=course.steps_total,
            sites=(
                *(self._site(run, site, course, driver) for site in view.sites),
                *self._standstill(run, course, driver),
            ),
            losses=tuple(item.loss for item in course.losses),
            up_bytes=fresh_up + sum(item.up_bytes for item in moved),
            down_bytes=fresh_down + sum(item.down_bytes for item in moved),
            seconds=(view.ended_at or self._runs.now()) - (view.started_at or view.submitted_at),
        )

    def seq(self, run: str) -> int:
        """Return a number that is another after every change."""
        return self._runs.changes(run)

    def _site(self, run: str, site: str, course: Course, driver: Driver | None) -> SiteProgress:
        here = self._fleet.attendance(site)
        working = () if here is None else here.working
        mine = [work for work in working if work.run == run and work.round == course.round]
        status: Status
        if site in course.excluded:
            status = "refused"
        elif driver is not None and site in driver.tasks:
            status = "working"
        elif driver is not None and site in driver.answers:
            status = "done"
        else:
            status = "not asked"
        done = 1.0 if status == "done" else 0.0
        waits: Waits = ""
        if status == "working":
            done, waits = next(((work.done, work.waits) for work in mine), (done, waits))
        return SiteProgress(site=site, presence=self._fleet.presence(site), status=status, done=done, waits=waits)

    def _standstill(self, run: str, course: Course, driver: Driver | None) -> tuple[SiteProgress, ...]:
        """Return the helper of secure sums, where the run waits for it."""
        asked = () if driver is None else [site for site in driver.job.helpers if site in driver.tasks]
        found = (self._site(run, site, course, driver) for site in asked)
        return tuple(item for item in found if item.presence != "here" or item.waits)

    def _with_trouble(self, view: RunView) -> RunView:
        driver = self._runs.find(view.id)
        if driver is None or driver.trouble is None:
            return view
        trouble = driver.trouble
        return msgspec.structs.replace(view, state="paused", message=trouble.message, hint=trouble.hint)
