"""What a step does with a gradient, as a pure function on trees of arrays, to be compiled into a program.

    clip its norm → + mu (w - w_start) → + correction → optimizer

The steps are those of the other frameworks' adapters, written for arrays that are not changed in place.

FedProx: Li et al. 2020, arXiv:1812.06127, eq. 2. SCAFFOLD: Karimireddy et al. 2020, arXiv:1910.06378, eq. 3.
Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1. AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from archipel.spec import LocalTraining
from archipel.tasks.adam import BETA1, BETA2, EPSILON
from archipel.tasks.xla.layout import Tree

Moments = tuple[Tree, ...]
"""What the optimizer remembers: nothing, the velocity, or Adam's first and second moment."""


class LocalStep:
    """Steps of one way of local training."""

    def __init__(self, local: LocalTraining, proximal: float) -> None:
        self._local = local
        self._proximal = proximal

    def moments(self, begin: Tree) -> Moments:
        """Return what the optimizer remembers before the first step."""
        zeros = {name: jnp.zeros_like(value) for name, value in begin.items()}
        if self._local.optimizer != "sgd":
            return zeros, dict(zeros)
        return (zeros,) if self._local.momentum else ()

    def shaped(self, slope: Tree, weights: Tree, begin: Tree, correction: Tree | None) -> Tree:
        """Clip the gradient, then add the proximal term and the correction."""
        clip = self._local.clip_norm
        if clip is not None:
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(value)) for value in slope.values()))
            factor = jnp.minimum(1.0, clip / norm)
            slope = {name: value * like(value, factor) for name, value in slope.items()}
        if self._proximal:
            slope = {name: value + self._proximal * (weights[name] - begin[name]) for name, value in slope.items()}
        if correction is not None:
            slope = {name: value + correction[name] for name, value in slope.items()}
        return slope

    def moved(self, weights: Tree, moments: Moments, slope: Tree, rates: Tree, count: Any) -> tuple[Tree, Moments]:
        """Take step number `count`, from 1."""
        local = self._local
        if local.weight_decay and local.optimizer == "adamw":
            weights = {
                name: value * like(value, 1 - rates[name] * local.weight_decay) for name, value in weights.items()
            }
        elif local.weight_decay:
            slope = {name: value + local.weight_decay * weights[name] for name, value in slope.items()}
        if local.optimizer != "sgd":
            return _adam(weights, moments, slope, rates, count)
        if local.momentum:
            slope = {name: local.momentum * moments[0][name] + value for name, value in slope.items()}
            moments = (slope,)
        return {name: value - like(value, rates[name]) * slope[name] for name, value in weights.items()}, moments


def like(array: Any, number: Any) -> Any:
    """Return the number in the array's dtype."""
    return jnp.asarray(number).astype(array.dtype)


def _adam(weights: Tree, moments: Moments, slope: Tree, rates: Tree, count: Any) -> tuple[Tree, Moments]:
    first = {name: value + (1 - BETA1) * (slope[name] - value) for name, value in moments[0].items()}
    second = {name: BETA2 * value + (1 - BETA2) * jnp.square(slope[name]) for name, value in moments[1].items()}
    scale, root_scale = _unbiased(BETA1, count), jnp.sqrt(_unbiased(BETA2, count))
    moved = {}
    for name, value in weights.items():
        root = jnp.sqrt(second[name]) / like(value, root_scale) + EPSILON
        moved[name] = value - like(value, rates[name] / scale) * first[name] / root
    return moved, (first, second)


def _unbiased(beta: float, count: Any) -> Any:
    """Return 1 - beta^count; as it is written, single precision would lose five digits of it in the first steps."""
    return -jnp.expm1(count * math.log(beta))
