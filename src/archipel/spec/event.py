"""Event: something that happened, said once, for several readers (logs, audit, progress, healing) to judge."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Value

Level = Literal["info", "warning", "error"]


class Event(Value, frozen=True, kw_only=True, tag_field="type", tag="event/1"):
    """One thing that happened."""

    at: Annotated[float, Meta(ge=0)]
    """Seconds since the Unix epoch, by the clock of the one who says it."""
    what: str
    """What happened, dotted from general to special: "round.closed", "site.joined", "update.refused"."""
    actor: str
    """Who: "control", "site/torgersen", "person/admin"."""
    level: Level = "info"
    run: str | None = None
    site: str | None = None
    detail: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    """Plain facts, units in their names; never a row, a secret or an update."""
