"""[federation.compression]: in how few bytes sites send their updates.

    [federation.compression]
    kind = "top-k"
    fraction = 0.1
    [federation.compression.sites]
    jfk = "none"                      # its link is not what a round waits for

What the kinds do is in `archipel.data.compression`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Name, Value

CompressionKind = Literal["none", "int8", "int4", "top-k", "low-rank"]


class CompressionSpec(Value, frozen=True, kw_only=True):
    """[federation.compression]: how the updates of training rounds are written on their way to control."""

    kind: Literal["none", "int8", "int4", "top-k", "low-rank", "auto"] = "int8"
    """"auto": for `archipel plan --what-if`, which picks a kind a site by its link and says what to write here."""
    fraction: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """For "top-k": share of an update's values that is sent."""
    bits: Literal[4, 8] = 8
    """For "top-k": of each value that is sent."""
    rank: Annotated[int, Meta(ge=1)] = 4
    """For "low-rank": columns of the two factors that a matrix is sent as."""
    sites: dict[Name, CompressionKind] = field(default_factory=dict)
    """Site → its kind, in the place of `kind`."""
