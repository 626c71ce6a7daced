"""Which family a set of sums belongs to, told by the sums' own keys, and its figures.

    summarise({"classification.examples": …, "classification.correct": …, …})     # {"accuracy": 0.98, …}

A task with figures of its own sums them under "mean.": {"mean.examples": rows, "mean.squared_error": sum} gives
{"examples": rows, "squared_error": sum / rows}.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec import ShapeError, UnknownNameError
from archipel.spec.views import Breakdown
from archipel.tasks.metrics.classification import Classification
from archipel.tasks.metrics.tagging import Tagging
from archipel.tasks.port import MetricFamily, Sums

Array = npt.NDArray[Any]


class Mean:
    """The family of figures that are a sum divided by the number of examples."""

    name = "mean"

    def sums(self, scores: Array, labels: Array) -> Sums:
        """Sums of the squared error of one prediction a row."""
        if scores.shape != labels.shape:
            raise ShapeError(f"predictions {scores.shape} for targets {labels.shape}", hint="give one a row")
        error = np.square(scores.astype(np.float64) - labels).sum()
        return {"mean.examples": np.array(float(len(labels))), "mean.squared_error": np.array(error)}

    def summary(self, sums: Mapping[str, Array]) -> dict[str, float]:
        """Return each sum divided by the examples."""
        examples = float(sums["mean.examples"])
        names = [key.removeprefix("mean.") for key in sums if key != "mean.examples"]
        return {"examples": examples} | {name: float(sums[f"mean.{name}"]) / examples for name in names if examples}

    def breakdowns(self, sums: Mapping[str, Array]) -> tuple[Breakdown, ...]:  # noqa: ARG002
        """None: there are no classes."""
        return ()


FAMILIES: Mapping[str, MetricFamily] = MappingProxyType(
    {family.name: family for family in (Classification(), Tagging(), Mean())}
)
"""Name → family, for computing figures; sums at a site are made by a family that knows the task's classes."""


def summarise(sums: Mapping[str, Array]) -> dict[str, float]:
    """Return the figures of added sums; {} for no sums at all."""
    return _family(sums).summary(sums) if sums else {}


def breakdowns(sums: Mapping[str, Array]) -> tuple[Breakdown, ...]:
    """Return what added sums tell of each class."""
    return _family(sums).breakdowns(sums) if sums else ()


def _family(sums: Mapping[str, Array]) -> MetricFamily:
    names = {key.partition(".")[0] for key in sums}
    if len(names) > 1:
        raise ShapeError(f"sums of several families: {', '.join(sorted(names))}", hint="summarise each on its own")
    [name] = names
    if name not in FAMILIES:
        raise UnknownNameError.of("metric family", name, FAMILIES)
    return FAMILIES[name]


def is_lower_better(metric: str) -> bool:
    """Is less of this figure better? Its last word says so: squared_error, log_loss, rmse."""
    return metric.rpartition("_")[2] in _LOWER_IS_BETTER


_LOWER_IS_BETTER = frozenset({"error", "loss", "mae", "mse", "perplexity", "rmse"})
