"""Gauge: how fast blobs go between the site and control, from those that went anyway.

    gauge.note("down", size_bytes=33_554_432, seconds=0.8)
    gauge.figure("down")                                      # Figure(value=41943040.0, source="measured", …)

A small blob tells of the round trip and not of the link, so only those of 1 MiB or more count. What is seen is what a
run sees: with the disks at both ends, and beside whatever else goes over the line.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Literal

from archipel.spec.device import Figure
from archipel.spec.wire import CHUNK_BYTES

LEAST_BYTES = CHUNK_BYTES
KEPT = 9
"""Blobs whose median is told."""
Way = Literal["down", "up"]


class Gauge:
    """Remembers the last transfers of each way."""

    def __init__(self) -> None:
        self._seen: dict[Way, deque[float]] = {"down": deque(maxlen=KEPT), "up": deque(maxlen=KEPT)}

    def note(self, way: Way, *, size_bytes: int, seconds: float) -> None:
        """A blob has gone."""
        if size_bytes >= LEAST_BYTES and seconds > 0:
            self._seen[way].append(size_bytes / seconds)

    def figure(self, way: Way) -> Figure | None:
        """Return B/s; None before a blob has gone."""
        seen = self._seen[way]
        if not seen:
            return None
        how = f"the last {len(seen)} blobs of 1 MiB or more (median)"
        return Figure(value=statistics.median(seen), source="measured", how=how)
