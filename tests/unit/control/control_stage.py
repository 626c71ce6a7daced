"""A control plane without doors, and without a clock of its own: the test moves the hands."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from archipel.control.api.house import House
from archipel.control.services.rounds.driver import Driver
from archipel.control.services.sites.presence import Attendance
from archipel.control.settings import Settings
from unit.control.control_house import Home
from unit.control.control_plane import make_bundle, make_job

NAMES = ("coral", "lagoon", "reef")
QUORUM = {"sites": list(NAMES), "absent": "quorum", "quorum": 0.5, "min_sites": 2}


class Stage:
    """A house in which three sites are enrolled, and the hands of its clock."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.now = 1000.0
        self.house = House.open(Settings(state=folder / "state"), time.time, lambda: self.now, closing)
        self.home = Home(self.house, None, folder)  # type: ignore[arg-type]  # the operator is not asked
        self.certificates = {name: self.home.credentials(name).certificate_pem for name in NAMES}
        self.bundle = make_bundle(folder / "job")

    def enter(self, *sites: str) -> None:
        """Let sites open their streams."""
        for site in sites:
            here = Attendance(site=site, send=lambda _: None, seen=self.now, datasets=("birds",))
            self.house.attendances.enter(here)

    def start(self, **federation: Any) -> Driver:
        """Begin a run over the three sites, by quorum unless `federation` says otherwise."""
        return self.house.runs.driver(self.home.start(make_job(federation=QUORUM | federation), self.bundle))

    def wait(self, seconds: float, *alive: str) -> None:
        """Let time pass, while some sites beat."""
        self.now += seconds
        for site in alive:
            self.house.attendances.touch(site, self.now)
        self.house.runs.tick()

    def lost(self, driver: Driver) -> tuple[str, ...]:
        """Return who is lost by the run's journal: what is only in memory does not count."""
        return self.house.runs.replayed(driver.run).progress().lost
