"""The people's door: REST for people and tools, documented by its OpenAPI at /schema.

Every address asks for an operator's bearer token but those marked public: enrolment (the join token is the right),
the CA's certificate, health, metrics and the schema. Bodies are spec values; unknown fields are refused; failures
answer with wire.Failure.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Litestar, MediaType, Response, Router, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from archipel.control.api.auditing import AUDIT
from archipel.control.api.handbook import assets, handbook
from archipel.control.api.metrics import figures
from archipel.control.api.office import PUBLIC, AnyRequest, Office, guard, office_of, operator_of
from archipel.control.api.refusals import answer_bug, answer_excess, answer_failure, answer_http
from archipel.control.api.results import RESULTS
from archipel.control.api.work import work_handlers
from archipel.spec import ArchipelError
from archipel.spec.event import Level
from archipel.spec.views import EventsPage, InvitationRequest, InvitationView, SitesPage, SiteView
from archipel.spec.wire import Certificate, Enrolment

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of any address but /v1/bundles."""


@get("/healthz", opt={PUBLIC: True}, security=[{}], sync_to_thread=False, media_type=MediaType.TEXT, tags=["service"])
def healthz() -> str:
    """Answer "ok" while the control plane serves."""
    return "ok\n"


@get("/metrics", opt={PUBLIC: True}, security=[{}], sync_to_thread=True, media_type=MediaType.TEXT, tags=["service"])
def metrics(request: AnyRequest) -> Response[bytes]:
    """Return figures in Prometheus' text format."""
    office = office_of(request)
    return Response(figures(office), media_type="text/plain; version=0.0.4; charset=utf-8")


@get(
    "/v1/authority", opt={PUBLIC: True}, security=[{}], sync_to_thread=False, media_type=MediaType.TEXT, tags=["sites"]
)
def certificate_authority(request: AnyRequest) -> str:
    """Return the certificate of this control plane's CA (PEM); join tokens carry its fingerprint."""
    return office_of(request).ca_pem


@post("/v1/enrolments", opt={PUBLIC: True}, security=[{}], sync_to_thread=True, tags=["sites"])
def enrol(request: AnyRequest, data: JSONBody[Enrolment]) -> Certificate:
    """Spend a join token: certify the key of the site it was made for."""
    office = office_of(request)
    return office.enrolments.enrol(data, office.sites_address())


@post("/v1/invitations", sync_to_thread=True, tags=["sites"])
def invite(request: AnyRequest, data: JSONBody[InvitationRequest]) -> InvitationView:
    """Make a join token for a site: one use, one hour. It is shown once."""
    office = office_of(request)
    return office.enrolments.invite(data.site, office.url(), operator_of(request), office.random)


@get("/v1/sites", sync_to_thread=True, tags=["sites"])
def sites(request: AnyRequest) -> SitesPage:
    """Return every site that has joined."""
    return office_of(request).fleet.list()


@get("/v1/sites/{name:str}", sync_to_thread=True, tags=["sites"])
def site(request: AnyRequest, name: FromPath[str]) -> SiteView:
    """Return one site."""
    return office_of(request).fleet.show(name)


@post("/v1/sites/{name:str}/revoke", sync_to_thread=True, status_code=200, tags=["sites"])
def revoke(request: AnyRequest, name: FromPath[str]) -> SiteView:
    """Cut a site off at once: its certificates and tokens no longer hold, its stream ends; a new token lets it back."""
    office = office_of(request)
    office.fleet.show(name)
    office.enrolments.revoke(name, operator_of(request))
    office.attendances.disconnect(name)
    return office.fleet.show(name)


@get("/v1/events", sync_to_thread=True, tags=["events"])
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
    """Return the ASGI app."""
    handlers: list[Any] = [healthz, metrics, certificate_authority, enrol, invite, sites, site, revoke, events]
    router = Router(
        path="/", route_handlers=[*handlers, *AUDIT, *RESULTS, *work_handlers(max_bundle_bytes)], guards=[guard]
    )
    return Litestar(
        route_handlers=[router, assets()],
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
