"""What stands behind the people's door, and the guard in front of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from archipel.control.api.refusals import UnauthorizedError
from archipel.control.services.accounts import Accounts
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
from archipel.control.services.sites.presence import Attendances
from archipel.data.stores.artefacts import Artefacts
from archipel.spec import TrustError

PUBLIC = "public"
"""Set in a handler's `opt`: no bearer token is asked for."""
AnyRequest = Request[Any, Any, Any]


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """The services people and tools are served by."""

    accounts: Accounts
    enrolments: Enrolments
    attendances: Attendances
    fleet: Fleet
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


def operator_of(request: AnyRequest) -> str:
    """Return who asks, as an actor for the event log."""
    return f"operator/{request.state.operator}"


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let through whoever shows an operator's token; every address but the public ones."""
    if handler.opt.get(PUBLIC):
        return
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError("no bearer token", hint="send the token of operator.json as `Authorization: Bearer …`")
    office: Office = connection.app.state.office
    try:
        connection.state.operator = office.accounts.who(token)
    except TrustError as error:
        raise UnauthorizedError(error.message, hint=error.hint) from error
