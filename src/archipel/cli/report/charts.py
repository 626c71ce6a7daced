"""Charts of the report as SVG text: grouped bars and a line, in the page's own colours, readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 34


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


def line(values: Sequence[tuple[int, float]], *, title: str, across: str, up: str) -> str:
    """Return one line over rounds."""
    if len(values) < 2:
        return ""
    height = 230
    xs, ys = [x for x, _ in values], [y for _, y in values]
    low, high = 0.0, max(ys) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across_share = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        up_share = (y - low) / ((high - low) or 1)
        return (
            _LEFT + across_share * (_WIDTH - _LEFT - _RIGHT),
            height - _BOTTOM - up_share * (height - _TOP - _BOTTOM),
        )

    out = [_open(height, title)]
    for tick in (low, (low + high) / 2, high):
        _, y = place(xs[0], tick)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_text(_LEFT - 6, y + 4, f"{tick:.3g}", anchor="end", kind="tick"))
    for tick in sorted({xs[0], xs[len(xs) // 2], xs[-1]}):
        x, _ = place(tick, low)
        out.append(_text(x, height - _BOTTOM + 16, str(tick), anchor="middle", kind="tick"))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*value) for value in values))
    out.append(f'<polyline class="line" points="{points}"/>')
    end_x, end_y = place(*values[-1])
    out.append(f'<circle class="dot" cx="{end_x:.1f}" cy="{end_y:.1f}" r="3.5"/>')
    out.append(_text(end_x - 6, end_y - 8, f"{ys[-1]:.3g}", anchor="end", kind="value"))
    out.append(_text(_WIDTH / 2, height - 4, across, anchor="middle", kind="tick"))
    out.append(_text(_LEFT, 10, up, kind="tick"))
    return "".join([*out, "</svg>"])


def _open(height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
