"""The house: every service of a control plane, composed over one state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import ExitStack

from archipel.control.api.intake import Intake
from archipel.control.api.office import Office
from archipel.control.api.sites import Back, SitesDoor
from archipel.control.services.accounts.doorkeeper import Doorkeeper
from archipel.control.services.accounts.issuer import Issuer
from archipel.control.services.accounts.logins import Logins
from archipel.control.services.accounts.owner import Owner
from archipel.control.services.accounts.passwords import Passwords
from archipel.control.services.accounts.people import People
from archipel.control.services.accounts.refusals import Refusals
from archipel.control.services.audit import EventLog
from archipel.control.services.heads import Heads
from archipel.control.services.jobs.board import Board
from archipel.control.services.jobs.bundles import Bundles
from archipel.control.services.jobs.planning import Planning
from archipel.control.services.models.registry import Registry
from archipel.control.services.rounds.notices import Notices
from archipel.control.services.rounds.report import Reports
from archipel.control.services.rounds.runs import Runs, Tools
from archipel.control.services.rounds.standing import Standing
from archipel.control.services.sites.enrolment import Enrolments
from archipel.control.services.sites.fleet import Fleet
from archipel.control.services.sites.inventories import Inventories
from archipel.control.services.sites.notes import Notes
from archipel.control.services.sites.presence import Attendances
from archipel.control.settings import Settings
from archipel.control.store.database import Database
from archipel.control.store.holdings import Holdings
from archipel.control.store.lock import DatabaseLock, FolderLock
from archipel.control.store.schema import upgrade
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.security import Authority
from archipel.security.sealing import open_sealing

Clock = Callable[[], float]


class House:
    """An open control plane, without its doors; `open` is the way in."""

    def __init__(self, settings: Settings, database: Database, authority: Authority, clock: Clock, mono: Clock) -> None:
        self.settings = settings
        self.database = database
        self.authority = authority
        self.clock = clock
        self.monotonic = mono
        self.http_port = settings.http_port
        self.sites_port = settings.sites_port
        sealing = open_sealing(settings.state, settings.key, first=settings.first_key)
        self.spool = Spool(settings.state / "spool", sealing)
        self.artefacts = Artefacts.open(settings.artefacts_url, sealing, **settings.artefact_options)
        self.holdings = Holdings(self.spool, self.artefacts)
        self.log = EventLog(database, clock)
        self.heads = Heads(database, authority, clock)
        self.notices = Notices()
        self.attendances = Attendances()
        passwords, refusals = Passwords(), Refusals(self.log, mono)
        self.people = People(database, self.log, passwords, clock)
        self.logins = Logins(database, self.log, passwords, refusals, clock=clock, monotonic=mono)
        self.issuer = None if settings.oidc is None else Issuer.open(settings.oidc, database, clock, mono)
        self.doorkeeper = Doorkeeper(self.logins, refusals, mono)
        self.owner = Owner(database, self.logins, clock)
        self.enrolments = Enrolments(database, self.log, authority, clock)
        self.fleet = Fleet(database, self.attendances, clock)
        self.inventories = Inventories(database, clock)
        self.registry = Registry(database)
        self.bundles = Bundles(database, self.spool, self.artefacts, self.holdings, clock)
        self.board = Board(database, self.log, self.bundles, self.fleet, clock)
        self.runs = Runs(self._tools(), clock, mono)
        self.standing = Standing(self.board, self.runs, self.fleet)
        self.sites_door = SitesDoor(self._back(), self.sites_address)

    @classmethod
    def open(cls, settings: Settings, clock: Clock, monotonic: Clock, closing: ExitStack) -> House:
        """Take the lock, bring the database up to date, rebuild unfinished runs; `closing` undoes it all.

        Raises:
            StateError: another control plane holds the state, or a newer one has made it.
        """
        lock = FolderLock(settings.state, clock())
        closing.callback(lock.close)
        database = Database.open(settings.database_url)
        closing.callback(database.close)
        held = DatabaseLock.take(database, lock.holder)
        closing.callback(held.close)
        upgrade(database)
        held.sign()
        authority = Authority.open(settings.state / "ca", dt.datetime.fromtimestamp(clock(), dt.UTC))
        house = cls(settings, database, authority, clock, monotonic)
        closing.callback(house.runs.close)
        house.spool.seal_plain()
        house.runs.load()
        return house

    def url(self) -> str:
        """Address of the people's door."""
        return f"https://{self.settings.names[0]}:{self.http_port}"

    def sites_address(self) -> str:
        """host:port of the sites' door."""
        return f"{self.settings.names[0]}:{self.sites_port}"

    def write_operator(self, random: Callable[[int], bytes]) -> None:
        """Write `operator.json`."""
        local = f"https://{self.settings.local_name}:{self.http_port}"
        self.owner.write(self.settings.state, self.url(), local, self.authority.pem, random)

    def office(self) -> Office:
        """Return what the people's door needs."""
        return Office(
            people=self.people,
            logins=self.logins,
            issuer=self.issuer,
            doorkeeper=self.doorkeeper,
            enrolments=self.enrolments,
            attendances=self.attendances,
            fleet=self.fleet,
            inventories=self.inventories,
            bundles=self.bundles,
            board=self.board,
            planning=Planning(self.database, self.fleet, self.inventories),
            runs=self.runs,
            standing=self.standing,
            reports=Reports(self.database, self.standing, self.spool, self.artefacts),
            registry=self.registry,
            notices=self.notices,
            artefacts=self.artefacts,
            log=self.log,
            heads=self.heads,
            ca_pem=self.authority.pem,
            url=self.url,
            sites_address=self.sites_address,
        )

    def _tools(self) -> Tools:
        return Tools(
            database=self.database,
            log=self.log,
            fleet=self.fleet,
            attendances=self.attendances,
            registry=self.registry,
            holdings=self.holdings,
            notices=self.notices,
            spool=self.spool,
            artefacts=self.artefacts,
            max_answer_bytes=self.settings.max_answer_bytes,
            noise_key=self.settings.state / "noise.key",
            authority=self.authority.pem,
        )

    def _back(self) -> Back:
        return Back(
            enrolments=self.enrolments,
            attendances=self.attendances,
            fleet=self.fleet,
            runs=self.runs,
            notes=Notes(self.log, self.monotonic),
            inventories=self.inventories,
            heads=self.heads,
            spool=self.spool,
            artefacts=self.artefacts,
            intake=Intake(self.spool),
            monotonic=self.monotonic,
        )
