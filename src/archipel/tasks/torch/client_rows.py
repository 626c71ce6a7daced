"""Clients at work side by side: their weights as rows, what each has left to do, and the steps each takes.

Example:
    clients = ClientRows(model, {}, plans, rows, Room())
    for tick in clients.ticks():
        working = clients.working(tick)
        losses, slopes = …                         # by `working`, on tick.rows
        clients.learn(tick, losses, slopes, working)      # one step of each
    clients.trained()                              # in the plans' order
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from archipel.spec import NonFiniteError
from archipel.tasks.examples import epoch_batches
from archipel.tasks.port import LocalPlan, Rows, Trained
from archipel.tasks.rates import multipliers_of
from archipel.tasks.torch.flat_model import FlatModel
from archipel.tasks.torch.local_step import LocalStep, is_plain
from archipel.tasks.torch.slopes import Slopes


class Tick(NamedTuple):
    """A step of clients whose batches are equally long."""

    clients: slice | list[int]
    """Which rows of the weights."""
    rows: Rows
    """(clients, batch): rows of the samples."""
    last: bool
    """Is it of the last epoch, whose losses are told?"""


class Room:
    """Memory for rows of weights that is kept from one group of clients to the next: fresh pages are what is dear."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []

    def take(self, number: int, rows: int, like: Tensor) -> Tensor:
        """Return space `number` as (rows, elements), with whatever is in it; what had it before has it no more."""
        while len(self._held) <= number:
            self._held.append(like.new_empty((0, len(like))))
        if len(self._held[number]) < rows:
            self._held[number] = like.new_empty((rows, len(like)))
        return self._held[number][:rows]


class ClientRows:
    """One group of clients, from one start."""

    def __init__(
        self,
        model: FlatModel,
        groups: Mapping[str, float],
        plans: Sequence[LocalPlan],
        rows: int,
        room: Room,
    ) -> None:
        """`groups` are multipliers of the rate by prefix; `room` is theirs until all of them have trained."""
        sizes = [rows if plan.rows is None else len(plan.rows) for plan in plans]
        self._order = sorted(range(len(plans)), key=lambda at: (-sizes[at], at))
        self._plans = [plans[at] for at in self._order]
        self._sizes = [sizes[at] for at in self._order]
        self._model = model
        self._start = model.vector.detach().clone()
        self._room = room
        self.weights = room.take(0, len(plans), self._start).copy_(self._start)
        """(clients, elements), the client with the most rows first."""
        rate = plans[0].learning_rate
        self._rates = {name: rate * factor for name, factor in multipliers_of(model.shapes, groups).items()}
        self._locals: list[LocalStep] = []
        """A client's own steps; none where all take the same, which is nothing but the gradient's."""
        if not all(is_plain(plan) and plan.learning_rate == rate for plan in plans):
            parts = model.multipliers(dict(groups))
            pairs = zip(self._plans, self.weights, strict=True)
            self._locals = [LocalStep(plan, row[: model.trained], parts) for plan, row in pairs]
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

    def working(self, tick: Tick) -> Tensor:
        """Return the weights of the clients of a tick: (clients, elements), a copy where they are no neighbours."""
        if isinstance(tick.clients, slice):
            return self.weights[tick.clients]
        copied = self._room.take(1, len(tick.clients), self._start)
        return torch.index_select(self.weights, 0, torch.tensor(tick.clients, device=copied.device), out=copied)

    def learn(self, tick: Tick, losses: Tensor, slopes: Slopes, working: Tensor) -> None:
        """Take the step of each client at work; the slopes are by `working`.

        Raises:
            NonFiniteError: a client's loss is not finite; names the client.
        """
        places = range(tick.clients.stop) if isinstance(tick.clients, slice) else tick.clients
        for at, loss in zip(places, losses.tolist(), strict=True):
            self._steps[at] += 1
            if not math.isfinite(loss):
                raise self._unfinite(at, f"the loss is {loss} at step {self._steps[at]}")
            if tick.last:
                self._loss_sums[at] += loss * tick.rows.shape[1]
                self._loss_examples[at] += tick.rows.shape[1]
        if not self._locals:
            slopes.descend(self._rates)
            if not isinstance(tick.clients, slice):  # then they are a copy
                self.weights[tick.clients] = working
            return
        gradient = self._room.take(2, len(working), self._start)
        slopes.write(self._model.unstack(gradient))
        for at, slope in zip(places, gradient, strict=True):
            self._locals[at].step(slope[: self._model.trained])

    def trained(self) -> Iterator[Trained]:
        """Yield what each client came to, in the plans' order."""
        for at in np.argsort(self._order):
            delta = (self.weights[at] - self._start).cpu().numpy()
            if not np.isfinite(delta).all():
                raise self._unfinite(at, "the update is not finite")
            yield Trained(
                delta=delta,
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
