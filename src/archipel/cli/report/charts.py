"""Charts of a report as SVG text: grouped bars and lines, in the page's own colours, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[int, float]]
"""(round, value), rounds rising."""

_WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 34
_LINES_HEIGHT, _LEGEND = 230, 18
KINDS = 8
"""So many lines differ in colour or dashes; page.css draws them."""


def bars(groups: Sequence[tuple[str, Mapping[str, float | None]]], *, title: str, floor: float = 0.0) -> str:
    """Return horizontal bars from `floor` to 1, or to the largest value above: groups of (name, {series → value})."""
    top = max([1.0, *(value for _, values in groups for value in values.values() if value is not None)])
    row, gap, left = 20, 14, 190
    height = sum(len(values) * row + gap for _, values in groups) + 24
    span = _WIDTH - left - 60
    out = [_open(height, title)]
    y = 6.0
    for name, values in groups:
        out.append(_text(left - 10, y + len(values) * row / 2 + 4, name, anchor="end", kind="name"))
        for series, value in values.items():
            out.append(f'<rect class="track" x="{left}" y="{y:.1f}" width="{span}" height="{row - 5}" rx="3"/>')
            if value is not None:
                share = max((value - floor) / (top - floor), 0.0)
                out.append(
                    f'<rect class="bar {escape(series)}" x="{left}" y="{y:.1f}" width="{share * span:.1f}" '
                    f'height="{row - 5}" rx="3"/>'
                )
            shown = "not measured" if value is None else f"{value:.3f}" if value < 100 else f"{value:.3g}"
            out.append(_text(left + span + 6, y + row - 9, shown, kind="value"))
            y += row
        y += gap
    for tick in (floor, (floor + top) / 2, top):
        x = left + (tick - floor) / (top - floor) * span
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{y - gap + 4:.1f}"/>')
        out.append(_text(x, y - gap + 18, f"{tick:.3g}", anchor="middle", kind="tick"))
    return "".join([*out, "</svg>"])


def lines(series: Mapping[str, Points], *, title: str, across: str, up: str) -> str:
    """Return lines over rounds, each with its last value; nothing where none has two points.

    The upright axis begins at 0, or where all values lie near each other, below the lowest.
    """
    shown = {name: found for name, points in series.items() if len(found := _finite(points)) > 1}
    if not shown:
        return ""
    height = _LINES_HEIGHT
    frame = _Frame.around([point for points in shown.values() for point in points])
    out = [_open(height + (_LEGEND * len(shown) if len(shown) > 1 else 0), title)]
    for tick in (frame.low, (frame.low + frame.high) / 2, frame.high):
        _, y = frame.place(frame.first, tick)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_text(_LEFT - 6, y + 4, f"{tick:.3g}", anchor="end", kind="tick"))
    for round_number in sorted({frame.first, (frame.first + frame.last) // 2, frame.last}):
        x, _ = frame.place(round_number, frame.low)
        out.append(_text(x, height - _BOTTOM + 16, str(round_number), anchor="middle", kind="tick"))
    for number, (name, points) in enumerate(shown.items()):
        kind = f"n{number % KINDS}"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.place(*point) for point in _thinned(points)))
        out.append(f'<polyline class="line {kind}" points="{path}"/>')
        x, y = frame.place(*points[-1])
        out.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
        if len(shown) == 1:
            out.append(
                _text(x - 6, y - 8 if y > 2 * _TOP else y + 16, f"{points[-1][1]:.3g}", anchor="end", kind="value")
            )
        else:
            y = height + _LEGEND * (number + 0.5)
            out.append(f'<polyline class="line {kind}" points="{_LEFT},{y:.1f} {_LEFT + 36},{y:.1f}"/>')
            out.append(_text(_LEFT + 44, y + 4, f"{name}: {points[-1][1]:.4g}", kind="value"))
    out.append(_text(_WIDTH / 2, height - 4, across, anchor="middle", kind="tick"))
    out.append(_text(_LEFT, 10, up, kind="tick"))
    return "".join([*out, "</svg>"])


@dataclass(frozen=True)
class _Frame:
    """Where rounds and values lie in a picture of lines."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def around(cls, points: Points) -> _Frame:
        rounds, values = [x for x, _ in points], [y for _, y in points]
        low, high = min(values), max(values)
        if low > high / 2:
            low -= (high - low) / 10
        else:
            low = min(low, 0.0)
        return cls(min(rounds), max(rounds), low, high if high > low else low + 1.0)

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.first) / ((self.last - self.first) or 1)
        up = (y - self.low) / (self.high - self.low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _LINES_HEIGHT - _BOTTOM - up * (_LINES_HEIGHT - _TOP - _BOTTOM),
        )


def _finite(points: Points) -> list[tuple[int, float]]:
    return [point for point in points if math.isfinite(point[1])]


def _thinned(points: Points) -> Points:
    """Leave out what no picture of this width can show; the last point stays."""
    every = -(-len(points) // _WIDTH)
    kept = points[::every]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _open(height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
