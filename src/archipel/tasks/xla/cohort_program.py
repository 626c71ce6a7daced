"""A cohort's round as one JAX function: a loop over clients, in it a loop over as many steps as the client has.

    for client:  weights = start                              (they stay in the second-level cache)
        for step:    gradient of the mean loss over the batch's rows → clip → proximal → correction → optimizer
        its delta is added to the mean, or kept

The loss is that of a batch of one row, mapped over a batch's; a short batch has rows that do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from archipel.spec import LocalTraining
from archipel.tasks.xla.layout import Layout, Tree
from archipel.tasks.xla.local_step import LocalStep, Moments, like

RowLoss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""(parameters by name, batch of one row by sample name) → its loss."""


class Cohort(NamedTuple):
    """What the clients of one call do; the first axis is theirs."""

    rows: Any
    """(clients, steps, batch): rows of the data, any number where a batch is short."""
    real: Any
    """(clients, steps): how many of a batch are real."""
    told: Any
    """(clients, steps): is it a step of the last epoch?"""
    steps: Any
    """(clients,): how many steps there are."""
    shares: Any
    """(clients,): of the mean."""
    corrections: Any
    """(clients, elements), or None."""


class Outcome(NamedTuple):
    """What they came to."""

    deltas: Any
    """(clients, elements), or a tree: their mean by shares."""
    losses: Any
    """(clients,): sums over the rows of the last epoch, in the widest type there is."""
    finite: Any
    """(clients,): are the weights finite?"""


class CohortProgram:
    """The function of one task and one way of local training, compiled at its first call."""

    def __init__(
        self,
        loss: RowLoss,
        layout: Layout,
        local: LocalTraining,
        proximal: float,
        *,
        keep: bool,
    ) -> None:
        """`keep` asks for every client's delta instead of the mean."""
        self._loss = loss
        self._layout = layout
        self._step = LocalStep(local, proximal)
        self._keep = keep
        self._jitted = jax.jit(self._cohort)

    def __call__(self, data: Mapping[str, Any], start: Any, cohort: Cohort, rate: float) -> Outcome:
        """Train the cohort from `start` on rows of `data`."""
        return Outcome(*self._jitted(data, start, cohort, rate))

    def _cohort(self, data: Mapping[str, Any], start: Any, cohort: Cohort, rate: Any) -> tuple[Any, Any, Any]:
        begin = self._layout.tree(start)
        rates = self._layout.rates(rate)

        def one(mean: Tree | None, client: Cohort) -> tuple[Tree | None, tuple[Any, Any, Any]]:
            weights, loss = self._client(data, begin, rates, client)
            delta = {name: weights[name] - begin[name] for name in weights}
            finite = jnp.all(jnp.stack([jnp.isfinite(value).all() for value in weights.values()]))
            if mean is None:
                return None, (self._layout.vector(delta), loss, finite)
            added = {name: mean[name] + like(value, client.shares) * value for name, value in delta.items()}
            return added, (None, loss, finite)

        zeros = {name: jnp.zeros_like(value) for name, value in begin.items()}
        mean, (deltas, losses, finite) = lax.scan(one, None if self._keep else zeros, cohort)
        return deltas if mean is None else mean, losses, finite

    def _client(self, data: Mapping[str, Any], begin: Tree, rates: Tree, client: Cohort) -> tuple[Tree, Any]:
        correction = None if client.corrections is None else self._layout.tree(client.corrections)

        def step(at: Any, state: tuple[Tree, Moments, Any]) -> tuple[Tree, Moments, Any]:
            weights, moments, told = state
            rows, real = client.rows[at], client.real[at]
            loss, slope = jax.value_and_grad(self._mean_loss)(weights, data, rows, real)
            slope = self._step.shaped(slope, weights, begin, correction)
            weights, moments = self._step.moved(weights, moments, slope, rates, at + 1)
            return weights, moments, told + jnp.where(client.told[at], loss * real, 0.0)

        first = (begin, self._step.moments(begin), jnp.zeros(()))
        weights, _, told = lax.fori_loop(0, client.steps, step, first)
        return weights, told

    def _mean_loss(self, weights: Tree, data: Mapping[str, Any], rows: Any, real: Any) -> Any:
        taken = {name: array.at[rows].get(mode="promise_in_bounds")[:, None] for name, array in data.items()}
        losses = jax.vmap(lambda row: self._loss(weights, row))(taken)
        return jnp.sum(jnp.where(jnp.arange(len(rows)) < real, losses, 0)) / real
