"""From the rounds of simulations to panels: one quantity each, with a line for each simulation.

    panels_of({"fedavg": result.history, "fedprox": other.history})
    # Panel(title="Training loss", …, lines={"fedavg": ((1, 0.69), (2, 0.51)), "fedprox": …}), …

What is drawn says which rows it was measured on: the training loss on the clients' own rows, every other figure on the
validation rows of the rounds that were scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from archipel.cli.wording import COUNTS
from archipel.simulation.virtual import RoundRecord

Points = tuple[tuple[int, float], ...]
"""(round, value), rounds rising."""


class Closed(Protocol):
    """A round that is over, of virtual clients or of sites."""

    @property
    def step(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def loss(self) -> float | None:
        """Mean training loss; None: none is known."""
        ...


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity over rounds."""

    title: str
    up: str
    """What the upright axis measures, and on which rows."""
    lines: dict[str, Points]
    """Name of a simulation → its values; those without one are left out."""


def panels_of(histories: Mapping[str, Sequence[RoundRecord]]) -> tuple[Panel, ...]:
    """Return the training loss, and each figure that a scored round has."""
    losses = {name: losses_of(history) for name, history in histories.items()}
    names = {name for history in histories.values() for one in history for name in one.figures or {}} - COUNTS
    panels = [loss_panel(losses)]
    for name in sorted(names):
        lines = {label: figures_of(history, name) for label, history in histories.items()}
        panels.append(_panel(name, f"{name} on validation rows", lines))
    return tuple(panel for panel in panels if panel.lines)


def loss_panel(losses: Mapping[str, Points]) -> Panel:
    """Return the panel of training losses."""
    return _panel("Training loss", "mean loss on the rows trained on", losses)


def losses_of(history: Sequence[Closed]) -> Points:
    """Return the training loss of each round that has one."""
    return tuple((one.step, one.loss) for one in history if one.loss is not None)


def figures_of(history: Sequence[RoundRecord], name: str) -> Points:
    """Return a figure of each round that was scored."""
    return tuple((one.step, one.figures[name]) for one in history if one.figures and name in one.figures)


def _panel(title: str, up: str, lines: Mapping[str, Points]) -> Panel:
    return Panel(title=title, up=up, lines={label: points for label, points in lines.items() if points})
