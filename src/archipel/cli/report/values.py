"""Report: everything the report of a run says, as one value; report.json is its canonical form.

Four ways to a model are compared on the same held-out rows:

    alone          each site trains on its own rows only
    federated      one model, trained across the sites
    personalised   the federated model, fine-tuned at each site
    pooled         one model from all rows in one place: the reference that no one may have in real life

each scored twice:

    everyone       a site's model on everyone's test rows, averaged over the sites by their test rows
    own            each test row scored by its own site's model
"""

from __future__ import annotations

from msgspec import field

from archipel.spec import Grade, SecurePlan, Value
from archipel.spec.privacy import Guarantee
from archipel.spec.views import Breakdown

WAYS = ("alone", "federated", "personalised", "pooled")
VIEWS = ("everyone", "own")

Figures = dict[str, float]
"""Metric → figure: "accuracy" or "auc", and "log_loss" (nats a row)."""


class Comparison(Value, frozen=True, kw_only=True):
    """One way's figures on both sets of rows; an empty dict: not measured."""

    everyone: Figures = field(default_factory=dict)
    own: Figures = field(default_factory=dict)


class Disclosure(Value, frozen=True, kw_only=True):
    """One kind of thing a site sent to control."""

    kind: str
    """The round's kind and the part, such as "train delta"."""
    what: str
    """What it is, in words."""
    times: int
    size_bytes: int
    """In full, also where control held the same bytes already and they were not sent again."""


class SiteReport(Value, frozen=True, kw_only=True):
    """One site's part."""

    name: str
    rows: int
    """Rows that passed the contract (for folders of texts: files)."""
    test_rows: int
    """Held-out rows all figures stand on."""
    labels: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    """Rows set aside by the contract."""
    scores: dict[str, Comparison] = field(default_factory=dict)
    """Way → figures of this site's model."""
    smallest_class: int | None = None
    """Test rows of the rarest class; None: unknown."""
    gain: float | None = None
    """How much better the model it serves (personalised, else federated) is than alone, on its own rows: their
    difference, below zero where it is worse; None: not measured."""
    verdict: str = ""
    """"gained", "same", "lost", or why nothing can be said."""
    absent: str = ""
    """Why it took no part, in control's words; empty: it took part."""
    disclosed: tuple[Disclosure, ...] = ()
    answer: str = ""
    """What its endpoint answered to the job's question; empty: not asked."""


class Loss(Value, frozen=True, kw_only=True):
    """Training loss of one round, over the sites' examples."""

    round: int
    loss: float


class Provenance(Value, frozen=True, kw_only=True):
    """What the figures were made with."""

    job: str
    bundle: str
    participation: str
    """In words, such as "3 of 4 sites, 40 training rounds"; who was refused took no part."""
    executor: str
    machine: str
    versions: dict[str, str]


class Report(Value, frozen=True, kw_only=True, tag_field="type", tag="comparison/1"):
    """A finished run, for people and tools."""

    job: str
    run: str
    state: str
    finished_at: float
    """Seconds since the Unix epoch."""
    metric: str
    """The figure that is compared: "accuracy", "auc", …; see `tasks.metrics.is_lower_better`."""
    overall: dict[str, Comparison]
    sites: tuple[SiteReport, ...]
    seconds: float
    """Wall time from the command to the report, in this fleet."""
    phases: dict[str, float]
    """Phase → wall seconds, in order."""
    bytes_moved: int
    """Bytes of blobs that were carried between control and sites, both ways; what control held already was not."""
    bytes_up: int
    bytes_down: int
    rounds: int
    model_name: str
    model_version: int
    model_digest: str
    """Digest of the federated model's weights."""
    losses: tuple[Loss, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    """Class by class: the federated model on everyone's test rows."""
    privacy: Guarantee | None = None
    """What the run has spent; None: it had no differential privacy."""
    question: dict[str, list[object]] = field(default_factory=dict)
    secure: SecurePlan | None = None
    """How the run's sums were made secret, if they were."""
    small_sites: tuple[str, ...] = ()
    """Sites with too few test rows a class to tell."""
    grades: tuple[Grade, ...] = ()
    """What the plan forecast, and what came."""
    provenance: Provenance
