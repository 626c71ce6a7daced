"""The tree over the event log. Events that are there are numbered without gaps and become its first leaves."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from archipel.security.audit import grow
from archipel.spec import Event, encode

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table of places and fill it."""
    places = op.create_table(
        "audit_places",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("place", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    connection = op.get_bind()
    size: int = 0
    standing: tuple[bytes, ...] = ()
    columns = "id, at, what, actor, level, run, site, detail"
    for row in connection.execute(sa.text(f"SELECT {columns} FROM events ORDER BY id")).all():  # noqa: S608
        event = Event(
            at=row.at,
            what=row.what,
            actor=row.actor,
            level=row.level,
            run=row.run,
            site=row.site,
            detail=msgspec.json.decode(row.detail),
        )
        growth = grow(size, standing, (encode(event),))
        size, standing = growth.size, growth.peaks
        if row.id != size:  # PostgreSQL left a number out where a change was undone
            connection.execute(sa.text("UPDATE events SET id = :new WHERE id = :old"), {"new": size, "old": row.id})
        filled = [{"level": level, "place": place, "hash": value} for (level, place), value in growth.places.items()]
        connection.execute(sa.insert(places), filled)
