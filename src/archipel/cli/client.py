"""Client: the control plane's REST API as typed calls, over TLS with the control plane's own CA pinned.

    with connect(state) as client:
        for site in client.sites():
            print(site.name, site.presence)

An error of the other side (a wire.Failure) is raised again as the same class; a control plane that cannot be reached
is a LinkError. The operator's token goes over https only, whoever named the address (the job file does, too).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from archipel.spec import (
    ArchipelError,
    Blob,
    Event,
    JobSpec,
    LinkError,
    ModelVersion,
    Plan,
    SpecError,
    decode,
    encode,
)
from archipel.spec.audit import EntryProof, LogGrowth, SignedHead
from archipel.spec.inventory import SiteInventory
from archipel.spec.issuer import IssuerLogin, IssuerView
from archipel.spec.people import (
    Assignment,
    Login,
    NewPerson,
    PasswordChange,
    PasswordLogin,
    PeoplePage,
    Person,
    PersonView,
)
from archipel.spec.views import (
    EventsPage,
    InventoriesPage,
    InventoryHistory,
    InvitationRequest,
    InvitationView,
    LoggedEvent,
    ModelsPage,
    Operator,
    PlanRequest,
    RunProgress,
    RunReport,
    RunRequest,
    RunsPage,
    RunView,
    SitesPage,
    SiteView,
)
from archipel.spec.wire import Failure

T = TypeVar("T")
_POLL_SECONDS = 70.0
"""Longer than control holds a long poll; not a limit on any work."""


class Client:
    """One control plane, for one operator."""

    def __init__(self, operator: Operator, transport: httpx.BaseTransport | None = None) -> None:
        self.operator = operator
        address = _require_https(operator.local or operator.url)
        verify: Any = ssl.create_default_context(cadata=operator.ca_pem) if transport is None else True
        self._http = httpx.Client(
            base_url=address,
            verify=verify,
            transport=transport,
            trust_env=False,
            headers={"Authorization": f"Bearer {operator.token}"} if operator.token else {},
            timeout=httpx.Timeout(_POLL_SECONDS, connect=5.0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    # ---- sites -----------------------------------------------------------------------------------------------

    def invite(self, site: str) -> InvitationView:
        """Make a join token for `site`."""
        return self._post("/v1/invitations", InvitationRequest(site=site), InvitationView)

    def revoke(self, site: str) -> SiteView:
        """Cut `site` off; it needs a new token."""
        return self._call("POST", f"/v1/sites/{site}/revoke", SiteView)

    def sites(self) -> tuple[SiteView, ...]:
        """Return all sites, by name."""
        return self._get("/v1/sites", SitesPage).sites

    def inventory(self, site: str) -> InventoryHistory:
        """Return what `site` has to work with, and had."""
        return self._get(f"/v1/sites/{site}/inventory", InventoryHistory)

    def inventories(self) -> dict[str, SiteInventory]:
        """Return what each site has to work with."""
        return self._get("/v1/inventories", InventoriesPage).sites

    # ---- people ----------------------------------------------------------------------------------------------

    def log_in(self, login: PasswordLogin) -> Login:
        """Get a token of one's own."""
        return self._post("/v1/login", login, Login)

    def issuer(self) -> IssuerView:
        """Return where to get an ID token."""
        return self._get("/v1/login/issuer", IssuerView)

    def log_in_by_issuer(self, id_token: str) -> Login:
        """Get a token of one's own for an ID token."""
        return self._post("/v1/login/issuer", IssuerLogin(id_token=id_token), Login)

    def log_out(self) -> Person:
        """End the log-in whose token this client sends."""
        return self._call("POST", "/v1/logout", Person)

    def whoami(self) -> Person:
        """Return who this client speaks for."""
        return self._get("/v1/login", Person)

    def change_password(self, change: PasswordChange) -> Person:
        """Replace one's own password; all of one's log-ins end."""
        return self._post("/v1/password", change, Person)

    def people(self) -> tuple[PersonView, ...]:
        """Return all accounts, by name."""
        return self._get("/v1/people", PeoplePage).people

    def add_person(self, new: NewPerson) -> PersonView:
        """Make an account."""
        return self._post("/v1/people", new, PersonView)

    def assign_role(self, name: str, assignment: Assignment) -> PersonView:
        """Give somebody another role."""
        return self._post(f"/v1/people/{quote(name, safe='')}/role", assignment, PersonView)

    def remove_person(self, name: str) -> PersonView:
        """Remove an account and end its log-ins."""
        return self._call("POST", f"/v1/people/{quote(name, safe='')}/remove", PersonView)

    # ---- jobs and runs ---------------------------------------------------------------------------------------

    def upload_bundle(self, data: bytes) -> Blob:
        """Store a task's code; the same bytes twice are one."""
        return self._call("POST", "/v1/bundles", Blob, content=data, media="application/zip")

    def plan(self, job: JobSpec) -> Plan:
        """Return what the job would take."""
        return self._post("/v1/plans", PlanRequest(job=job), Plan)

    def start(self, job: JobSpec, bundle: str, run: str | None = None) -> RunView:
        """Start a run of the job; where it has the name of one that is there, that one is returned."""
        return self._post("/v1/runs", RunRequest(job=job, bundle=bundle, id=run), RunView)

    def runs(self) -> tuple[RunView, ...]:
        """Return all runs, newest first."""
        return self._get("/v1/runs", RunsPage).runs

    def run(self, run: str) -> RunView:
        """Return one run."""
        return self._get(f"/v1/runs/{run}", RunView)

    def progress(self, run: str, after: int | None = None) -> RunProgress:
        """Return where the run is; with `after`, once there is news since that `seq` (or after a while)."""
        query: dict[str, str | int] = {} if after is None else {"after": after}
        return self._get(f"/v1/runs/{run}/progress", RunProgress, query)

    def report(self, run: str) -> RunReport:
        """Return what came out of a run."""
        return self._get(f"/v1/runs/{run}/report", RunReport)

    def stop(self, run: str) -> RunView:
        """Stop a run; `resume` goes on with it."""
        return self._call("POST", f"/v1/runs/{run}/stop", RunView)

    def resume(self, run: str) -> RunView:
        """Go on with a stopped or failed run."""
        return self._call("POST", f"/v1/runs/{run}/resume", RunView)

    # ---- models and events -----------------------------------------------------------------------------------

    def models(self, name: str | None = None) -> tuple[ModelVersion, ...]:
        """Return model versions, newest first within a name."""
        path = "/v1/models" if name is None else f"/v1/models/{name}"
        return self._get(path, ModelsPage).models

    def events(self, after: int = 0, run: str | None = None) -> tuple[LoggedEvent, ...]:
        """Return one page of events with ids above `after`; of one run, where it is named."""
        query: dict[str, str | int] = {"after": after} if run is None else {"after": after, "run": run}
        return self._get("/v1/events", EventsPage, query).events

    def all_events(self, after: int = 0, run: str | None = None) -> Iterator[tuple[int, Event]]:
        """Yield every event above `after` that is there now, page by page; of one run, where it is named."""
        while page := self.events(after, run):
            for item in page:
                after = item.id
                yield item.id, item.event

    def head(self) -> SignedHead:
        """Return the signed head of the audit log, not verified."""
        return self._get("/v1/audit/head", SignedHead)

    def growth(self, since: int) -> LogGrowth:
        """Return the head and the proof that it goes on from one of `since` entries, not verified."""
        return self._get("/v1/audit/growth", LogGrowth, {"since": since})

    def proof(self, entry: int) -> EntryProof:
        """Return an entry and the proof that it is in the log, not verified."""
        return self._get(f"/v1/audit/entries/{entry}", EntryProof)

    def refusals(self, run: str) -> dict[str, str]:
        """Return site → why its work was last refused in the run."""
        return {
            event.site: str(event.detail.get("reason", ""))
            for _, event in self.all_events(run=run)
            if event.what == "update.refused" and event.site is not None
        }

    # ---- the wire --------------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T], query: dict[str, str | int] | None = None) -> T:
        return self._call("GET", path, kind, query=query)

    def _post(self, path: str, body: Any, kind: type[T]) -> T:
        return self._call("POST", path, kind, content=encode(body))

    def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: dict[str, str | int] | None = None,
        content: bytes | None = None,
        media: str = "application/json",
    ) -> T:
        headers = {} if content is None else {"Content-Type": media}
        try:
            answer = self._http.request(method, path, params=query, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise LinkError(
                f"control at {self.operator.url} cannot be reached: {error or type(error).__name__}",
                hint="is it running? `archipel up` starts one here; `archipel resume` starts local sites again",
            ) from error
        if answer.is_success:
            return decode(answer.content, kind)
        raise _error_of(answer)


def _require_https(address: str) -> str:
    if not address.startswith("https://"):
        raise SpecError(
            f"the control plane's address {address!r} is not https: the operator's token would go out in clear text",
            hint="write it as https://HOST:PORT in --control, in `control` of the job file or in operator.json",
        )
    return address


def _error_of(answer: httpx.Response) -> ArchipelError:
    try:
        return decode(answer.content, Failure).as_error()
    except SpecError:
        text = answer.text[:200]
        return LinkError(f"control answered {answer.status_code}: {text}", hint="both sides must run the same version")
