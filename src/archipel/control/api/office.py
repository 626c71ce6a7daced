"""What stands behind the people's door."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request

from archipel.control.services.accounts.doorkeeper import Doorkeeper
from archipel.control.services.accounts.issuer import Issuer
from archipel.control.services.accounts.logins import Logins
from archipel.control.services.accounts.people import People
from archipel.control.services.audit import EventLog
from archipel.control.services.heads import Heads
from archipel.control.services.jobs.board import Board
from archipel.control.services.jobs.bundles import Bundles
from archipel.control.services.jobs.planning import Planning
from archipel.control.services.models.registry import Registry
from archipel.control.services.rounds.notices import Notices
from archipel.control.services.rounds.report import Reports
from archipel.control.services.rounds.runs import Runs
from archipel.control.services.rounds.standing import Standing
from archipel.control.services.sites.enrolment import Enrolments
from archipel.control.services.sites.fleet import Fleet
from archipel.control.services.sites.inventories import Inventories
from archipel.control.services.sites.presence import Attendances
from archipel.data.stores.artefacts import Artefacts
from archipel.spec.people import Person

AnyRequest = Request[Any, Any, Any]


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """The services people and tools are served by."""

    people: People
    logins: Logins
    issuer: Issuer | None
    doorkeeper: Doorkeeper
    enrolments: Enrolments
    attendances: Attendances
    fleet: Fleet
    inventories: Inventories
    bundles: Bundles
    board: Board
    planning: Planning
    runs: Runs
    standing: Standing
    reports: Reports
    registry: Registry
    notices: Notices
    artefacts: Artefacts
    log: EventLog
    heads: Heads
    ca_pem: str
    url: Callable[[], str]
    """Address of the people's door, as sites are told in tokens."""
    sites_address: Callable[[], str]
    random: Callable[[int], bytes] = os.urandom
    """Source of secrets and of run ids."""


def office_of(request: AnyRequest) -> Office:
    """Return the office an app was made with."""
    office: Office = request.app.state.office
    return office


def person_of(request: AnyRequest) -> Person:
    """Return who asks."""
    person: Person = request.state.person
    return person


def actor_of(request: AnyRequest) -> str:
    """Return who asks, as an actor for the event log."""
    return f"person/{person_of(request).name}"
