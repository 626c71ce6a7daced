"""What the control plane's REST API takes and answers: shared by its handlers, the CLI and tools.

    POST /v1/invitations            InvitationRequest → InvitationView
    POST /v1/enrolments             wire.Enrolment    → wire.Certificate
    GET  /v1/sites[/NAME]           SitesPage, SiteView
    GET  /v1/sites/NAME/inventory   InventoryHistory
    GET  /v1/inventories            InventoriesPage
    POST /v1/sites/NAME/revoke      SiteView
    POST /v1/bundles                zip bytes         → Blob
    POST /v1/plans                  PlanRequest       → Plan
    POST /v1/runs                   RunRequest        → RunView
    GET  /v1/runs[/ID]              RunsPage, RunView
    GET  /v1/runs/ID/progress       RunProgress (long poll: `after` is the last `seq` seen)
    GET  /v1/runs/ID/report         RunReport
    POST /v1/runs/ID/stop           RunView
    POST /v1/runs/ID/resume         RunView
    GET  /v1/models[/NAME[/V]]      ModelsPage, ModelVersion
    GET  /v1/events                 EventsPage

Errors answer with wire.Failure. Every time is in seconds since the Unix epoch, every length of time in seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.dataset import DatasetManifest
from archipel.spec.event import Event
from archipel.spec.inventory import SiteInventory
from archipel.spec.job import JobSpec
from archipel.spec.model import ModelVersion, ServedModel
from archipel.spec.plan import Grade, SecurePlan
from archipel.spec.privacy import Guarantee
from archipel.spec.round import Kind
from archipel.spec.wire import Waits, Working

RunState = Literal["waiting", "running", "paused", "stopped", "failed", "finished"]
"""waiting: too few sites are here yet; paused: goes on by itself once the named trouble is over."""
Presence = Literal["here", "lost", "away", "revoked"]
"""here: its lease runs; lost: the lease ended while its stream stands; away: no stream; revoked: cut off, it needs a
new token."""


class Operator(Value, frozen=True, kw_only=True):
    """`operator.json` in control's state folder (0600): how to reach it, and the right to."""

    url: str
    local: str | None = None
    """Address on control's own machine, where the name in `url` may not be known; a copy elsewhere ignores it."""
    ca_pem: str
    """The CA whose certificate the HTTPS port shows; pin it."""
    token: str
    """Sent as "Authorization: Bearer …"."""


class InvitationRequest(Value, frozen=True, kw_only=True):
    """Ask for a join token for a site."""

    site: Name


class InvitationView(Value, frozen=True, kw_only=True):
    """The token; it is shown once and not kept."""

    site: Name
    token: str
    expires_at: float


class SiteDataset(Value, frozen=True, kw_only=True):
    """A data set a site says it holds."""

    dataset: Name
    manifest: DatasetManifest | None = None
    """As the last run's check found it; None: no run has looked yet."""


class SiteView(Value, frozen=True, kw_only=True):
    """A site, as control knows it."""

    name: Name
    presence: Presence
    joined_at: float
    seen_at: float | None = None
    agent: str | None = None
    """Version of archipel there."""
    certificate_expires_at: float | None = None
    datasets: tuple[SiteDataset, ...] = ()
    working: tuple[Working, ...] = ()
    serving: tuple[ServedModel, ...] = ()


class SitesPage(Value, frozen=True, kw_only=True):
    """All sites, by name."""

    sites: tuple[SiteView, ...]


class InventoryHistory(Value, frozen=True, kw_only=True):
    """A site's inventories, newest first; empty: it has not said any."""

    inventories: tuple[SiteInventory, ...]


class InventoriesPage(Value, frozen=True, kw_only=True):
    """Site → its newest inventory."""

    sites: dict[Name, SiteInventory]


class PlanRequest(Value, frozen=True, kw_only=True):
    """Ask what a job would take."""

    job: JobSpec


class RunRequest(Value, frozen=True, kw_only=True):
    """Start a job whose bundle has been uploaded."""

    job: JobSpec
    bundle: Digest
    id: Name | None = None
    """Name of the run, chosen by whoever asks (`JobSpec.name_run`), so that asking again starts nothing twice."""


class RunView(Value, frozen=True, kw_only=True):
    """A run."""

    id: Name
    job: Name
    job_digest: Digest
    bundle: Digest
    state: RunState
    sites: tuple[Name, ...] = ()
    """Fixed when the run starts."""
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    message: str = ""
    """Why it waits, paused, stopped or failed."""
    hint: str = ""
    model_version: int | None = None
    """Version under the job's name, once finished."""


class RunsPage(Value, frozen=True, kw_only=True):
    """Runs, newest first."""

    runs: tuple[RunView, ...]


class SiteProgress(Value, frozen=True, kw_only=True):
    """One site in the open round."""

    site: Name
    presence: Presence
    status: Literal["working", "done", "refused", "not asked"]
    done: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of its work that is done, as the site says."""
    waits: Waits = ""
    """What the site's own policy lets it wait for."""


class RunProgress(Value, frozen=True, kw_only=True):
    """Where a run is. `seq` grows with every change; ask with `after = seq` to be told of the next."""

    seq: int
    run: RunView
    round: int | None = None
    """The open round; None: none is open."""
    kind: Kind | None = None
    step: int = 0
    """Training round, from 1 …"""
    steps: int = 0
    """… of so many."""
    sites: tuple[SiteProgress, ...] = ()
    losses: tuple[float | None, ...] = ()
    """Mean training loss per example of each closed training round, from the first; None: no site reported one."""
    up_bytes: int = 0
    """Moved from sites to control so far."""
    down_bytes: int = 0
    seconds: float = 0.0
    """Since the run started."""


class Scores(Value, frozen=True, kw_only=True):
    """One kind of model, scored twice on the same test rows; figures of the task's metric family."""

    everyone: dict[str, float] | None = None
    """A site's model on everyone's test rows (overall: averaged over sites by their rows). None: not measured."""
    own: dict[str, float] | None = None
    """A site's model on its own test rows (overall: each row scored by its own site's model)."""


class SiteReport(Value, frozen=True, kw_only=True):
    """A site in a report."""

    name: Name
    rows: int
    """Rows that pass the contract."""
    test_rows: int
    labels: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    """Kind of model ("federated", "alone", "personalised") → scores."""


class Moved(Value, frozen=True, kw_only=True):
    """Bytes of blobs that were carried between one site and control in one phase; messages are not counted."""

    site: Name
    phase: Kind
    up_bytes: int
    down_bytes: int


class Disclosure(Value, frozen=True, kw_only=True):
    """What a site sent in one phase."""

    site: Name
    phase: Kind
    part: str
    """"delta", "sums", "model", "onnx", … or "manifest" (counts of rows, labels, bad rows)."""
    times: int
    total_bytes: int
    """In full, also where control held the same bytes already and they were not sent again."""
    names: tuple[str, ...] = ()
    """For sums: the names of what was summed."""


class ClassLine(Value, frozen=True, kw_only=True):
    """How well one class is told apart, or the average over several."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """How many there truly are."""


class Breakdown(Value, frozen=True, kw_only=True):
    """Precision, recall and F1 class by class, with their averages: what scikit-learn calls a classification report."""

    what: str
    """What was counted, such as "words"."""
    classes: tuple[ClassLine, ...]
    averages: tuple[ClassLine, ...]
    accuracy: float | None = None
    """Share that is right, where each thing counted has exactly one class."""


class RunReport(Value, frozen=True, kw_only=True, tag_field="type", tag="report/1"):
    """What came out of a run, what it cost and what each site disclosed."""

    run: RunView
    rounds: int
    """Training rounds."""
    model_digest: Digest | None
    """Of the final global weights."""
    sites: tuple[SiteReport, ...]
    overall: dict[str, Scores]
    """Kind of model → scores over all sites."""
    seconds: float
    """Wall time from start to end."""
    seconds_by_phase: dict[str, float]
    bytes_moved: int
    """Up and down, over all sites."""
    moved: tuple[Moved, ...]
    disclosures: tuple[Disclosure, ...]
    losses: tuple[float | None, ...] = ()
    """Mean training loss per example of each training round, from the first; None: no site reported one."""
    breakdowns: tuple[Breakdown, ...] = ()
    """Of the federated model, on everyone's test rows."""
    privacy: Guarantee | None = None
    """What the training rounds so far have spent; None: the job asks for no differential privacy."""
    secure: SecurePlan | None = None
    """How the run's sums were made secret; None: control saw each site's update."""
    grades: tuple[Grade, ...] = ()
    """What the plan forecast once the model's size was known, from runs before this one, and what came; empty before
    the end."""


class ModelsPage(Value, frozen=True, kw_only=True):
    """Model versions, newest first within a name."""

    models: tuple[ModelVersion, ...]


class LoggedEvent(Value, frozen=True, kw_only=True):
    """An event and its place in the log."""

    id: int
    event: Event


class EventsPage(Value, frozen=True, kw_only=True):
    """Events in order; ask for the next page with `after` = the last id."""

    events: tuple[LoggedEvent, ...]
