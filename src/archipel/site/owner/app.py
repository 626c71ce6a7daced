"""The portal as a REST API, for a site's own portal or scripts: on loopback, for whoever has its token.

    GET  /v1/approvals                   {"approvals": […]}: waiting, approved, refused
    GET  /v1/approvals/ID                one of them, with every setting of its job
    POST /v1/approvals/ID                {"decision": "approved" | "refused"}: the approval as it then is
    GET  /v1/refusals                    {"refusals": […]}, from the site's own log

Every request carries `Authorization: Bearer TOKEN`. Errors are {"error", "message", "hint"}: 400 for a body that does
not fit, 401 without the token, 404 for what is not there, 409 where the site's folder does not allow it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from archipel.site.approvals import Decision
from archipel.site.owner.portal import Portal
from archipel.spec import ArchipelError, SpecError, UnknownNameError, encode

Opened = Callable[[], AbstractContextManager[Portal]]
"""A portal for the length of one request, so that the folder is never held."""
Asked = Request[Any, Any, State]
_LIMIT_BYTES = 4096


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a decision."""

    decision: Decision


@get("/v1/approvals")
async def approvals(state: State) -> Response[bytes]:
    """List every job that was put before people here."""
    return await _answered(state, lambda portal: {"approvals": portal.approvals()})


@get("/v1/approvals/{id_:str}")
async def approval(state: State, id_: str) -> Response[bytes]:
    """Show one."""
    return await _answered(state, lambda portal: portal.approval(id_))


@post("/v1/approvals/{id_:str}", status_code=200, request_max_body_size=_LIMIT_BYTES)
async def decide(request: Asked, state: State, id_: str) -> Response[bytes]:
    """Approve or refuse one."""
    try:
        said = msgspec.json.decode(await request.body(), type=Said)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        hint = 'send {"decision": "approved"} or {"decision": "refused"}'
        raise SpecError(f"not a decision: {error}", hint=hint) from error
    return await _answered(state, lambda portal: portal.decide(id_, said.decision, by=state.by))


@get("/v1/refusals")
async def refusals(state: State) -> Response[bytes]:
    """Show what the site refused, and why."""
    return await _answered(state, lambda portal: {"refusals": portal.refusals()})


def make_app(opened: Opened, *, token: str, by: str) -> Litestar:
    """Return the ASGI application; decisions are logged as those of `by`."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        given = connection.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise NotAuthorizedException("the token is not this portal's")

    return Litestar(
        [approvals, approval, decide, refusals],
        guards=[guard],
        state=State({"open": opened, "by": by}),
        exception_handlers={ArchipelError: _refuse, HTTPException: _refuse_request},
        openapi_config=None,
        logging_config=None,
    )


async def _answered(state: State, ask: Callable[[Portal], object]) -> Response[bytes]:
    def asked() -> object:
        with state.open() as portal:
            return ask(portal)

    return _answer(await asyncio.to_thread(asked))


def _answer(value: object, status: int = 200) -> Response[bytes]:
    return Response(encode(value), status_code=status, media_type=MediaType.JSON)


def _refuse(_: Asked, error: ArchipelError) -> Response[bytes]:
    status = 404 if isinstance(error, UnknownNameError) else 400 if isinstance(error, SpecError) else 409
    said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return _answer(said, status)


def _refuse_request(_: Asked, error: HTTPException) -> Response[bytes]:
    hint = "send the token of `archipel policy serve` as `Authorization: Bearer …`" if error.status_code == 401 else ""
    said = {"error": type(error).__name__, "message": error.detail, "hint": hint}
    return _answer(said, error.status_code)
