"""The guard in front of every address: each declares what it needs, and one that declares nothing is not served.

@get("/v1/sites", opt=needs("sites.read"))
@get("/healthz", opt=needs(OPEN), security=[{}])
"""

from __future__ import annotations

from typing import Any, Literal

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from archipel.control.api.office import Office
from archipel.control.services.accounts.doorkeeper import Visit
from archipel.security.access import TABLE, Right

OPEN: Literal["open"] = "open"
"""Needs nothing: no bearer token is asked for."""
_NEEDS = "needs"


def needs(right: Right | Literal["open"]) -> dict[str, Any]:
    """Return the `opt` of an address that needs this right."""
    return {_NEEDS: right}


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let through whoever has the right that the address needs."""
    office: Office = connection.app.state.office
    right = handler.opt.get(_NEEDS)
    visit = visit_of(connection)
    if right == OPEN:
        office.doorkeeper.open_to_all(visit)
    else:
        connection.state.person = office.doorkeeper.let_in(visit, right)


def visit_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Visit:
    """Return a request as the doorkeeper sees it; nothing that a proxy says of it is believed."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    site = connection.path_params.get("name") if connection.url.path.startswith("/v1/sites/") else None
    return Visit(
        address=connection.client.host if connection.client else "unknown",
        method=str(connection.scope.get("method", "")),
        path=connection.scope["path_template"],
        token=token if scheme.lower() == "bearer" and token else None,
        site=site,
    )


def needs_of(app: Litestar) -> dict[tuple[str, str], Right | Literal["open"]]:
    """Return what each method of each address of the app needs.

    Raises:
        ValueError: an address declares nothing, or a right that stands in no line of the table.
    """
    found: dict[tuple[str, str], Right | Literal["open"]] = {}
    for route in app.routes:
        handlers = route.route_handlers if isinstance(route, HTTPRoute) else [route.route_handler]
        for handler in handlers:
            methods = sorted(getattr(handler, "http_methods", {"GET"}))
            if methods == ["OPTIONS"]:
                continue  # made by the framework; without a right, the guard refuses it
            right = handler.opt.get(_NEEDS)
            if right != OPEN and right not in TABLE:
                raise ValueError(f"{methods[0]} {route.path} needs {right!r}, which is no right: declare one")
            found.update({(method, route.path): right for method in methods})
    return found
