"""Errors of the tree as HTTP answers: one table, one body (wire.Failure) for every failure."""

from __future__ import annotations

import math
from typing import Any

import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException

from archipel.control.services.accounts.doorkeeper import UnauthorizedError
from archipel.spec import (
    ArchipelError,
    DataError,
    LinkError,
    MissingExtraError,
    SpecError,
    StateError,
    StorageFullError,
    TaskError,
    TooManyError,
    TrustError,
    UnknownNameError,
    encode,
)
from archipel.spec.wire import Failure

STATUS_OF: tuple[tuple[type[ArchipelError], int], ...] = (
    (UnknownNameError, 404),
    (SpecError, 400),
    (DataError, 422),
    (TaskError, 422),
    (TrustError, 403),
    (StorageFullError, 507),
    (TooManyError, 429),
    (StateError, 409),
    (LinkError, 503),
    (MissingExtraError, 501),
    (ArchipelError, 500),
)
"""First match counts: a class before its parents."""
_HTTP_NAMES = {401: "TrustError", 403: "TrustError", 404: "UnknownNameError", 405: "UnknownNameError"}
_HTTP_HINTS = {
    401: "log in with `archipel login`, or send the token of operator.json as `Authorization: Bearer …`",
    404: "GET /schema/openapi.json lists every address",
    405: "GET /schema/openapi.json lists every address and its methods",
    413: "send less; the limits are in the documentation of the address",
}
AnyRequest = Request[Any, Any, Any]


def answer_failure(_: AnyRequest, error: ArchipelError) -> Response[bytes]:
    """Answer an error of the tree."""
    status = 401 if isinstance(error, UnauthorizedError) else status_of(error)
    name = "TrustError" if isinstance(error, UnauthorizedError) else type(error).__name__
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, TooManyError):
        headers["Retry-After"] = str(max(1, math.ceil(error.wait_seconds)))
    return _answer(status, Failure(error=name, message=error.message, hint=error.hint), headers)


def answer_http(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: no such address, a body that does not fit, too large."""
    status = error.status_code
    name = _HTTP_NAMES.get(status, "SpecError")
    extra = error.extra if isinstance(error.extra, list) else []
    places = "; ".join(f"{item.get('key', 'body')}: {item.get('message', '')}" for item in extra)
    message = f"{error.detail}: {places}" if places else error.detail
    hint = _HTTP_HINTS.get(status, "GET /schema/openapi.json says what each address takes")
    return _answer(status, Failure(error=name, message=message, hint=hint))


def answer_excess(_: AnyRequest, error: RecursionError | OverflowError) -> Response[bytes]:
    """Answer a body nested too deeply, or a number beyond what a database holds."""
    what = "nested too deeply" if isinstance(error, RecursionError) else "a number too large"
    hint = "GET /schema/openapi.json says what each address takes"
    return _answer(400, Failure(error="SpecError", message=f"the request holds something {what}", hint=hint))


def answer_bug(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Answer what nobody foresaw, without its details, which go to the log."""
    structlog.get_logger().error("rest.failed", path=request.url.path, exc_info=error)
    failure = Failure(error="ArchipelError", message="the control plane failed", hint="look at the control plane's log")
    return _answer(500, failure)


def status_of(error: ArchipelError) -> int:
    """Return the status code of an error."""
    return next(status for kind, status in STATUS_OF if isinstance(error, kind))


def _answer(status: int, failure: Failure, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(encode(failure), status_code=status, media_type=MediaType.JSON, headers=headers)
