"""The people's door: REST for people and tools, documented by its OpenAPI at /schema.

Every address declares the right it needs (security.access). Open to all are logging in, enrolment (the join token is
the right), the CA's certificate, health, metrics and the schema. Bodies are spec values; unknown fields are refused;
failures answer with wire.Failure.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Litestar, MediaType, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from archipel.control.api.accounts import ACCOUNTS
from archipel.control.api.auditing import AUDIT
from archipel.control.api.guard import OPEN, guard, needs, needs_of, visit_of
from archipel.control.api.handbook import assets, handbook
from archipel.control.api.metrics import figures
from archipel.control.api.office import AnyRequest, Office, actor_of, office_of
from archipel.control.api.refusals import answer_bug, answer_excess, answer_failure, answer_http
from archipel.control.api.results import RESULTS
from archipel.control.api.work import work_handlers
from archipel.spec import ArchipelError, TrustError
from archipel.spec.event import Level
from archipel.spec.views import (
    EventsPage,
    InventoriesPage,
    InventoryHistory,
    InvitationRequest,
    InvitationView,
    SitesPage,
    SiteView,
)
from archipel.spec.wire import Certificate, Enrolment

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of any address but /v1/bundles."""


@get("/healthz", opt=needs(OPEN), security=[{}], sync_to_thread=False, media_type=MediaType.TEXT, tags=["service"])
def healthz() -> str:
    """Answer "ok" while the control plane serves."""
    return "ok\n"


@get("/metrics", opt=needs(OPEN), security=[{}], sync_to_thread=True, media_type=MediaType.TEXT, tags=["service"])
def metrics(request: AnyRequest) -> Response[bytes]:
    """Return figures in Prometheus' text format."""
    office = office_of(request)
    return Response(figures(office), media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/v1/authority", opt=needs(OPEN), security=[{}], sync_to_thread=False, media_type=MediaType.TEXT, tags=["sites"])
def certificate_authority(request: AnyRequest) -> str:
    """Return the certificate of this control plane's CA (PEM); join tokens carry its fingerprint."""
    return office_of(request).ca_pem


@post("/v1/enrolments", opt=needs(OPEN), security=[{}], sync_to_thread=True, tags=["sites"])
def enrol(request: AnyRequest, data: JSONBody[Enrolment]) -> Certificate:
    """Spend a join token: certify the key of the site it was made for."""
    office, visit = office_of(request), visit_of(request)
    try:
        return office.enrolments.enrol(data, office.sites_address())
    except TrustError as refused:
        office.doorkeeper.note(visit, office.doorkeeper.stranger(visit), refused)
        raise


@post("/v1/invitations", opt=needs("sites.invite"), sync_to_thread=True, tags=["sites"])
def invite(request: AnyRequest, data: JSONBody[InvitationRequest]) -> InvitationView:
    """Make a join token for a site: one use, one hour. It is shown once."""
    office = office_of(request)
    return office.enrolments.invite(data.site, office.url(), actor_of(request), office.random)


@get("/v1/sites", opt=needs("sites.read"), sync_to_thread=True, tags=["sites"])
def sites(request: AnyRequest) -> SitesPage:
    """Return every site that has joined."""
    return office_of(request).fleet.list()


@get("/v1/sites/{name:str}", opt=needs("sites.read"), sync_to_thread=True, tags=["sites"])
def site(request: AnyRequest, name: FromPath[str]) -> SiteView:
    """Return one site."""
    return office_of(request).fleet.show(name)


@get("/v1/sites/{name:str}/inventory", opt=needs("sites.read"), sync_to_thread=True, tags=["sites"])
def inventory(request: AnyRequest, name: FromPath[str]) -> InventoryHistory:
    """Return what a site has to work with, and had."""
    office = office_of(request)
    office.fleet.show(name)
    return InventoryHistory(inventories=office.inventories.history(name))


@get("/v1/inventories", opt=needs("sites.read"), sync_to_thread=True, tags=["sites"])
def inventories(request: AnyRequest) -> InventoriesPage:
    """Return what each site has to work with, as it said last."""
    return InventoriesPage(sites=office_of(request).inventories.newest())


@post("/v1/sites/{name:str}/revoke", opt=needs("sites.revoke"), sync_to_thread=True, status_code=200, tags=["sites"])
def revoke(request: AnyRequest, name: FromPath[str]) -> SiteView:
    """Cut a site off at once: its certificates and tokens no longer hold, its stream ends; a new token lets it back."""
    office = office_of(request)
    office.fleet.show(name)
    office.enrolments.revoke(name, actor_of(request))
    office.attendances.disconnect(name)
    return office.fleet.show(name)


@get("/v1/events", opt=needs("events.read"), sync_to_thread=True, tags=["events"])
def events(
    request: AnyRequest,
    after: Annotated[int, QueryParameter(ge=0, le=2**53, description="Last id seen")] = 0,
    run: FromQuery[str | None] = None,
    site: FromQuery[str | None] = None,
    level: FromQuery[Level] = "info",
) -> EventsPage:
    """Return the next page of events, of at least this level."""
    return office_of(request).log.read(after=after, run=run, site=site, level=level)


def build(office: Office, max_bundle_bytes: int) -> Litestar:
    """Return the ASGI app; a ValueError where an address declares no right."""
    handlers: list[Any] = [
        healthz,
        metrics,
        certificate_authority,
        enrol,
        invite,
        sites,
        site,
        inventory,
        inventories,
        revoke,
    ]
    app = Litestar(
        route_handlers=[*handlers, events, *ACCOUNTS, *AUDIT, *RESULTS, *work_handlers(max_bundle_bytes), assets()],
        guards=[guard],
        state=State({"office": office}),
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={
            ArchipelError: answer_failure,
            HTTPException: answer_http,
            RecursionError: answer_excess,
            OverflowError: answer_excess,
            Exception: answer_bug,
        },
        openapi_config=handbook(),
        logging_config=None,
    )
    needs_of(app)
    return app
