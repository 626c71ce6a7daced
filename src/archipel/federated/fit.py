"""Does a model fit the job's algorithm? Asked once, where the model is made: a run that cannot be right does not begin.

    require_fit(job.federation, buffers=("norm.running_var",), multipliers={"encoder.": 0.1})

Running statistics are averaged, and may not be stepped: momentum or a rate above 1 on the server carries a variance
below zero. SCAFFOLD's control variate is (x - y) / (K eta), equation (4) of arXiv:1910.06378: with another eta for a
part of the model it would be wrong by that factor, and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from archipel.federated.algorithms import algorithm_of
from archipel.federated.port import Algorithm, Block, RoundFacts
from archipel.spec import TaskError
from archipel.spec.job import FederationSpec

MEANS = (1.0, -0.25, 0.0)
"""Mean updates of three rounds, on which momentum, rates and adaptive steps each show."""


def require_fit(
    federation: FederationSpec, *, buffers: Sequence[str], multipliers: Mapping[str, float], private: bool = False
) -> None:
    """Refuse a model with these running statistics and multipliers of the learning rate; `private`: with noise.

    Raises:
        TaskError: the algorithm cannot work with them.
    """
    algorithm = algorithm_of(federation)
    if buffers and private:
        raise TaskError(
            f"the model has running statistics ({buffers[0]!r}), which noise would carry below zero, or which leave "
            "sites without any",
            hint="use LayerNorm or GroupNorm, or let trainable() say no to them",
        )
    if buffers and not averages(algorithm):
        raise TaskError(
            f"the model has running statistics ({buffers[0]!r}), which {federation.algorithm} with these options "
            "would step as if they were weights",
            hint="use LayerNorm or GroupNorm, let trainable() say no to them, or take fedavg or fedprox",
        )
    scaled = {prefix: multiplier for prefix, multiplier in multipliers.items() if multiplier != 1}
    if scaled and algorithm.variant().get("scaffold"):
        prefix, multiplier = min(scaled.items())
        raise TaskError(
            f"parameter_groups() gives {prefix!r} {multiplier:g} times the learning rate, and scaffold needs one rate",
            hint="give no parameter_groups(), or take another algorithm",
        )


def averages(algorithm: Algorithm) -> bool:
    """Is every next model the model plus the mean update, and nothing else? Tried on one number."""
    model: Block = np.zeros(1)
    state: Mapping[str, Block] = {name: np.zeros(1) for name in algorithm.state}
    parts = (*algorithm.weighted, *algorithm.uniform)
    for step, mean in enumerate(MEANS, start=1):
        facts = RoundFacts(step=step, cohort=1, population=1)
        expected = model + mean
        model, state = algorithm.apply(facts, model, dict.fromkeys(parts, np.full(1, mean)), state)
        if model != expected:
            return False
    return True
