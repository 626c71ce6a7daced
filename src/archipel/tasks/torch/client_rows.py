"""Clients at work side by side: their weights as rows, what each has left to do, and the steps each takes.

Example:
    clients = ClientRows(model, parts, plans, rows)
    for tick in clients.ticks():
        losses, gradient = …                       # by clients.weights[tick.clients], on tick.rows
        clients.learn(tick, losses, gradient)      # one step of each
    clients.trained()                              # in the plans' order
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from archipel.spec import NonFiniteError
from archipel.tasks.examples import epoch_batches
from archipel.tasks.port import LocalPlan, Rows, Trained
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.local_step import LocalStep


class Tick(NamedTuple):
    """A step of clients whose batches are equally long."""

    clients: slice | list[int]
    """Which rows of the weights."""
    rows: Rows
    """(clients, batch): rows of the samples."""
    last: bool
    """Is it of the last epoch, whose losses are told?"""


class ClientRows:
    """One group of clients, from one start."""

    def __init__(
        self,
        model: FlatModel,
        parts: Sequence[tuple[slice, float]],
        plans: Sequence[LocalPlan],
        rows: int,
    ) -> None:
        sizes = [rows if plan.rows is None else len(plan.rows) for plan in plans]
        self._order = sorted(range(len(plans)), key=lambda at: (-sizes[at], at))
        self._plans = [plans[at] for at in self._order]
        self._sizes = [sizes[at] for at in self._order]
        self._start = model.vector.detach().clone()
        self.weights = self._start.repeat(len(plans), 1)
        """(clients, elements), the client with the most rows first."""
        begin = self._start[: model.trained]
        self._locals = [
            LocalStep(plan, row[: model.trained], begin, parts)
            for plan, row in zip(self._plans, self.weights, strict=True)
        ]
        self._steps = [0] * len(plans)
        self._loss_sums = [0.0] * len(plans)
        self._loss_examples = [0] * len(plans)

    def ticks(self) -> Iterator[Tick]:
        """Yield the steps of all clients: within an epoch full batches first, then the short ones, by length."""
        pairs = zip(self._sizes, self._plans, strict=True)
        batches = [[list(one) for one in _by_epoch(size, plan)] for size, plan in pairs]
        epochs = max(plan.epochs for plan in self._plans)
        for epoch in range(epochs):
            yield from self._epoch([of[epoch] for of in batches], last=epoch == epochs - 1)

    def _epoch(self, batches: Sequence[Sequence[Rows]], *, last: bool) -> Iterator[Tick]:
        full = self._plans[0].local.batch_size
        counts = [sum(len(one) == full for one in own) for own in batches]
        for turn in range(max(counts)):
            working = sum(count > turn for count in counts)
            yield Tick(slice(0, working), np.stack([own[turn] for own in batches[:working]]), last)
        short: dict[int, list[int]] = defaultdict(list)
        for at, own in enumerate(batches):
            if own and len(own[-1]) < full:
                short[len(own[-1])].append(at)
        for _, clients in sorted(short.items()):
            yield Tick(clients, np.stack([batches[at][-1] for at in clients]), last)

    def learn(self, tick: Tick, losses: Tensor, gradient: Tensor) -> None:
        """Take the step of each client at work.

        Raises:
            NonFiniteError: a client's loss is not finite; names the client.
        """
        places = range(tick.clients.stop) if isinstance(tick.clients, slice) else tick.clients
        values = losses.tolist()
        for at, loss, slope in zip(places, values, gradient, strict=True):
            self._steps[at] += 1
            if not np.isfinite(loss):
                raise self._unfinite(at, f"the loss is {loss} at step {self._steps[at]}")
            if tick.last:
                self._loss_sums[at] += loss * tick.rows.shape[1]
                self._loss_examples[at] += tick.rows.shape[1]
            self._locals[at].step(slope)

    def trained(self) -> Iterator[Trained]:
        """Yield what each client came to, in the plans' order."""
        deltas = (self.weights - self._start).cpu().numpy()
        for at in np.argsort(self._order):
            if not np.isfinite(deltas[at]).all():
                raise self._unfinite(at, "the update is not finite")
            yield Trained(
                delta=deltas[at],
                examples=self._sizes[at],
                steps=self._steps[at],
                loss_sum=self._loss_sums[at],
                loss_examples=self._loss_examples[at],
            )

    def _unfinite(self, at: int, message: str) -> NonFiniteError:
        hint = "lower the learning rate, clip gradients or check the data"
        return NonFiniteError(f"{self._plans[at].client}: {message}", hint=hint)


def _by_epoch(rows: int, plan: LocalPlan) -> list[list[Rows]]:
    found: list[list[Rows]] = [[] for _ in range(plan.epochs)]
    for epoch, chosen in epoch_batches(rows, plan):
        found[epoch].append(chosen)
    return found
