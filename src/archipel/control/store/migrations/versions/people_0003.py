"""People with roles, and tokens that end. Whoever holds a token from before becomes an admin, as that token was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of people, and fill it with those who hold tokens."""
    op.create_table(
        "people",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("sites", sa.Text, nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("subject", sa.Text, unique=True),
        sa.Column("added_at", sa.Float, nullable=False),
    )
    op.add_column("tokens", sa.Column("expires_at", sa.Float))
    op.create_index("tokens_name", "tokens", ["name"])
    op.execute(
        "INSERT INTO people (name, role, sites, added_at) "
        "SELECT name, 'admin', '[]', min(issued_at) FROM tokens GROUP BY name"
    )
