"""A cohort's round as one JAX function: a loop over clients, in it a loop over as many steps as the client has.

    for client:  weights = start                              (they stay in the second-level cache)
        for step:    gradient of the mean loss over the batch's rows → clip → proximal → correction → optimizer
        its delta is added to the mean, or kept

The steps are those of `local_step` and `optimizer`, written for arrays that are not changed in place.
FedProx: Li et al. 2020, arXiv:1812.06127, eq. 2. SCAFFOLD: Karimireddy et al. 2020, arXiv:1910.06378, eq. 3.
Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1. AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from archipel.spec import LocalTraining
from archipel.tasks.torch.lowering import LoweredLoss
from archipel.tasks.torch.optimizer import BETA1, BETA2, EPSILON

Tree = dict[str, Any]
"""Parameter name → array."""
Moments = tuple[Tree, ...]


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
    """(clients, elements), or (elements,): their mean by shares."""
    losses: Any
    """(clients,): sums over the rows of the last epoch, float64."""
    finite: Any
    """(clients,): are the weights finite?"""


class CohortProgram:
    """The function of one task and one way of local training, compiled at its first call."""

    def __init__(
        self,
        loss: LoweredLoss,
        shapes: Mapping[str, tuple[int, ...]],
        parts: Sequence[tuple[slice, float]],
        local: LocalTraining,
        proximal: float,
        *,
        keep: bool,
    ) -> None:
        """`parts` are multipliers of the learning rate; `keep` asks for every client's delta instead of the mean."""
        self._loss = loss
        self._shapes = shapes
        self._parts = parts
        self._local = local
        self._proximal = proximal
        self._keep = keep
        self._jitted = jax.jit(self._cohort)

    def __call__(self, data: Mapping[str, Any], start: Any, cohort: Cohort, rate: float) -> Outcome:
        """Train the cohort from `start` on rows of `data`."""
        return Outcome(*self._jitted(data, start, cohort, rate))

    def _cohort(self, data: Mapping[str, Any], start: Any, cohort: Cohort, rate: Any) -> tuple[Any, Any, Any]:
        begin = self._tree(start)
        rates = self._rates(rate)

        def one(mean: Tree | None, client: Cohort) -> tuple[Tree | None, tuple[Any, Any, Any]]:
            weights, loss = self._client(data, begin, rates, client)
            delta = {name: weights[name] - begin[name] for name in weights}
            finite = jnp.all(jnp.stack([jnp.isfinite(value).all() for value in weights.values()]))
            if mean is None:
                return None, (self._vector(delta), loss, finite)
            added = {name: mean[name] + _like(value, client.shares) * value for name, value in delta.items()}
            return added, (None, loss, finite)

        zeros = {name: jnp.zeros_like(value) for name, value in begin.items()}
        mean, (deltas, losses, finite) = lax.scan(one, None if self._keep else zeros, cohort)
        return deltas if mean is None else self._vector(mean), losses, finite

    def _client(self, data: Mapping[str, Any], begin: Tree, rates: Tree, client: Cohort) -> tuple[Tree, Any]:
        correction = None if client.corrections is None else self._tree(client.corrections)

        def step(at: Any, state: tuple[Tree, Moments, Any]) -> tuple[Tree, Moments, Any]:
            weights, moments, told = state
            rows, real = client.rows[at], client.real[at]
            loss, slope = jax.value_and_grad(self._mean_loss)(weights, data, rows, real)
            slope = self._shaped(slope, weights, begin, correction)
            weights, moments = self._moved(weights, moments, slope, rates, at + 1)
            return weights, moments, told + jnp.where(client.told[at], loss * real, 0.0)

        first = (begin, self._moments(begin), jnp.zeros((), jnp.float64))
        weights, _, told = lax.fori_loop(0, client.steps, step, first)
        return weights, told

    def _mean_loss(self, weights: Tree, data: Mapping[str, Any], rows: Any, real: Any) -> Any:
        taken = {name: array.at[rows].get(mode="promise_in_bounds")[:, None] for name, array in data.items()}
        losses = jax.vmap(lambda row: self._loss(weights, row))(taken)
        return jnp.sum(jnp.where(jnp.arange(len(rows)) < real, losses, 0)) / real

    def _shaped(self, slope: Tree, weights: Tree, begin: Tree, correction: Tree | None) -> Tree:
        clip = self._local.clip_norm
        if clip is not None:
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(value)) for value in slope.values()))
            factor = jnp.minimum(1.0, clip / norm)
            slope = {name: value * _like(value, factor) for name, value in slope.items()}
        if self._proximal:
            slope = {name: value + self._proximal * (weights[name] - begin[name]) for name, value in slope.items()}
        if correction is not None:
            slope = {name: value + correction[name] for name, value in slope.items()}
        return slope

    def _moments(self, begin: Tree) -> Moments:
        zeros = {name: jnp.zeros_like(value) for name, value in begin.items()}
        if self._local.optimizer != "sgd":
            return zeros, zeros
        return (zeros,) if self._local.momentum else ()

    def _moved(self, weights: Tree, moments: Moments, slope: Tree, rates: Tree, count: Any) -> tuple[Tree, Moments]:
        """Take step number `count`, from 1."""
        local = self._local
        if local.weight_decay and local.optimizer == "adamw":
            weights = {
                name: value * _like(value, 1 - rates[name] * local.weight_decay) for name, value in weights.items()
            }
        elif local.weight_decay:
            slope = {name: value + local.weight_decay * weights[name] for name, value in slope.items()}
        if local.optimizer != "sgd":
            return _adam(weights, moments, slope, rates, count)
        if local.momentum:
            slope = {name: local.momentum * moments[0][name] + value for name, value in slope.items()}
            moments = (slope,)
        return {name: value - _like(value, rates[name]) * slope[name] for name, value in weights.items()}, moments

    def _tree(self, vector: Any) -> Tree:
        return parameters_of(vector, self._shapes, self._loss.swapped)

    def _vector(self, tree: Tree) -> Any:
        parts = (tree[name].T if name in self._loss.swapped else tree[name] for name in self._shapes)
        return jnp.concatenate([part.reshape(-1) for part in parts])

    def _rates(self, rate: Any) -> Tree:
        """Parameter name → learning rate."""
        found: Tree = {}
        place = 0
        for name, shape in self._shapes.items():
            factor = next((factor for part, factor in self._parts if part.start <= place < part.stop), 1.0)
            found[name] = rate * factor
            place += int(np.prod(shape, dtype=np.int64))
        return found


def parameters_of(vector: Any, shapes: Mapping[str, tuple[int, ...]], swapped: Collection[str]) -> Tree:
    """Cut a vector into parameters, as a lowered loss wants them."""
    found: Tree = {}
    place = 0
    for name, shape in shapes.items():
        end = place + int(np.prod(shape, dtype=np.int64))
        value = vector[place:end].reshape(shape)
        found[name] = value.T if name in swapped else value
        place = end
    return found


def _adam(weights: Tree, moments: Moments, slope: Tree, rates: Tree, count: Any) -> tuple[Tree, Moments]:
    first = {name: value + (1 - BETA1) * (slope[name] - value) for name, value in moments[0].items()}
    second = {name: BETA2 * value + (1 - BETA2) * jnp.square(slope[name]) for name, value in moments[1].items()}
    moved = {}
    for name, value in weights.items():
        root = jnp.sqrt(second[name]) / _like(value, jnp.sqrt(1 - BETA2**count)) + EPSILON
        moved[name] = value - _like(value, rates[name] / (1 - BETA1**count)) * first[name] / root
    return moved, (first, second)


def _like(array: Any, number: Any) -> Any:
    return jnp.asarray(number).astype(array.dtype)
