"""Tables of the control plane. The migrations make them; a test holds the two against each other.

Times are seconds since the Unix epoch; spec values are kept as their canonical JSON (text), beside the few columns
that questions are asked about.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
SERIAL = BigInteger().with_variant(Integer, "sqlite")

holder = Table(
    "holder",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("epoch", BigInteger, nullable=False),  # fencing token: grows with every control plane that starts
    Column("pid", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("since", Float, nullable=False),
)

sites = Table(
    "sites",
    metadata,
    Column("name", Text, primary_key=True),
    Column("joined_at", Float, nullable=False),
    Column("agent", Text),  # version of archipel at the site
    Column("seen_at", Float),
    Column("serving", Text),  # JSON: tuple[ServedModel, ...]
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("site", Text, nullable=False),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("csr_digest", Text),  # of the signing request that used it: the same one may ask again
    Index("invitations_site", "site"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", Text, primary_key=True),  # hex
    Column("site", Text, ForeignKey("sites.name"), nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float),
)

datasets = Table(
    "datasets",
    metadata,
    Column("site", Text, ForeignKey("sites.name"), primary_key=True),
    Column("dataset", Text, primary_key=True),
    Column("manifest", Text),  # JSON: DatasetManifest, known once a run has checked it
    Column("seen_at", Float, nullable=False),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_at", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON: JobSpec
    Column("submitted_at", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, ForeignKey("jobs.digest"), nullable=False),
    Column("bundle", Text, ForeignKey("bundles.digest"), nullable=False),
    Column("state", Text, nullable=False),  # waiting, running, stopped, failed, finished
    Column("sites", Text),  # JSON: tuple[Name, ...], fixed when the run starts
    Column("submitted_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("tidied_at", Float),  # what only the run itself needed is dropped
    Column("message", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Index("runs_state", "state"),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", Text, nullable=False),  # JSON: RunEvent
    # Filled for accepted updates only: the database itself counts each (run, round, site) once.
    Column("round", Integer),
    Column("site", Text),
    UniqueConstraint("run", "round", "site", name="run_events_counted_once"),
)

rounds = Table(
    "rounds",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("participation", Text, nullable=False),  # JSON: tuple[Name, ...]
    Column("model", Text),  # digest of the weights after the round
    Column("state", Text),
    Column("sums", Text),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float, nullable=False),
    Column("site_seconds", Float, nullable=False),  # longest wall time of a site's work in the round
)

transfers = Table(
    "transfers",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("site", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # phase
    Column("up_bytes", BigInteger, nullable=False),
    Column("down_bytes", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False, unique=True),
    Column("value", Text, nullable=False),  # JSON: ModelVersion
    Column("registered_at", Float, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("model", Text, primary_key=True),
    Column("site", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("copy", Text, nullable=False),
    Column("ordered_at", Float, nullable=False),
)

inventories = Table(
    "inventories",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("site", Text, ForeignKey("sites.name"), nullable=False),
    Column("at", Float, nullable=False),  # by control's clock
    Column("value", Text, nullable=False),  # JSON: SiteInventory
    Index("inventories_site", "site", "id"),
)

events = Table(
    "events",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=False),  # 1, 2, 3…: entry `id` is leaf `id` - 1 of the tree
    Column("at", Float, nullable=False),
    Column("what", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("run", Text),
    Column("site", Text),
    Column("detail", Text, nullable=False),  # JSON: dict
    Index("events_run", "run", "id"),
)

audit_places = Table(
    "audit_places",
    metadata,
    # The complete subtrees of the tree over `events` (security.audit.tree): written once, with the entry they end in.
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("place", SERIAL, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("sites", Text, nullable=False),  # JSON: tuple[Name, ...], of a data owner
    Column("password", Text),  # argon2id, as one string with its salt and costs; None: does not log in with one
    Column("subject", Text, unique=True),  # issuer and subject of whoever logs in by OIDC
    Column("added_at", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("secret_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("expires_at", Float),  # None: operator.json's, which has no end
    Index("tokens_name", "name"),
)
