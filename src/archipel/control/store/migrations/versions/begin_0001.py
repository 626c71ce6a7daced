"""The first schema: sites, jobs, runs with their journal, models, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    _people()
    _work()
    _results()


def _people() -> None:
    op.create_table(
        "holder",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("joined_at", sa.Float, nullable=False),
        sa.Column("agent", sa.Text),
        sa.Column("seen_at", sa.Float),
        sa.Column("serving", sa.Text),
    )
    op.create_table(
        "invitations",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False, unique=True),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float),
        sa.Column("csr_digest", sa.Text),
    )
    op.create_index("invitations_site", "invitations", ["site"])
    op.create_table(
        "certificates",
        sa.Column("serial", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, sa.ForeignKey("sites.name"), nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_table(
        "datasets",
        sa.Column("site", sa.Text, sa.ForeignKey("sites.name"), primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("manifest", sa.Text),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("secret_hash", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("issued_at", sa.Float, nullable=False),
    )


def _work() -> None:
    op.create_table(
        "bundles",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_at", sa.Float, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("submitted_at", sa.Float, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, sa.ForeignKey("jobs.digest"), nullable=False),
        sa.Column("bundle", sa.Text, sa.ForeignKey("bundles.digest"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("sites", sa.Text),
        sa.Column("submitted_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("tidied_at", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
    )
    op.create_index("runs_state", "runs", ["state"])
    op.create_table(
        "run_events",
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("round", sa.Integer),
        sa.Column("site", sa.Text),
        sa.UniqueConstraint("run", "round", "site", name="run_events_counted_once"),
    )
    op.create_table(
        "rounds",
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("participation", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("sums", sa.Text),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("closed_at", sa.Float, nullable=False),
        sa.Column("site_seconds", sa.Float, nullable=False),
    )
    op.create_table(
        "transfers",
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("up_bytes", sa.BigInteger, nullable=False),
        sa.Column("down_bytes", sa.BigInteger, nullable=False),
    )


def _results() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), nullable=False, unique=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("registered_at", sa.Float, nullable=False),
    )
    op.create_table(
        "deployments",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("copy", sa.Text, nullable=False),
        sa.Column("ordered_at", sa.Float, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("run", sa.Text),
        sa.Column("site", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("events_run", "events", ["run", "id"])
