"""JaxTask: what a user derives from to train a pytree of parameters by pure functions.

    class Flights(JaxTask):
        classes = ("on time", "late")
        features = ("x",)
        label = "late"

        def read(self, site, statistics):
            ...                                              # SiteData -> Split(train={...}, test={...})

        def init(self, key, statistics):
            return {"weight": jax.random.normal(key, (8, 2)) * 0.1, "bias": jnp.zeros(2)}

        def forward(self, params, batch, key):
            return batch["x"] @ params["weight"] + params["bias"]          # logits

That is enough: loss, scores, evaluation and export have defaults, each of which may be overridden. `forward`, `loss`
and `scores` are compiled, so they must be what `jax.jit` can trace. Random numbers come from the key that is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from archipel.data.site_data import SiteData
from archipel.spec import ShapeError
from archipel.tasks.metrics import Classification, Tagging, end_to_end
from archipel.tasks.port import MetricFamily, Samples, Split, Sums

Parameters = Any
"""What `init` returns: any nest of dicts, lists and tuples of floating-point arrays."""
Batch = Mapping[str, jax.Array]
"""The rows of a step: sample name → array (rows, …)."""
Key = jax.Array


class JaxTask:
    """Base of tasks for framework = "jax"; a subclass gives at least `read`, `init` and `forward`."""

    classes: Sequence[str] = ()
    """Names of the classes (or tags), in the order of the model's outputs."""
    features: Sequence[str] = ()
    """Sample names that the model takes; the exported model's inputs, in this order."""
    label: str = "label"
    """Sample name of the target: class numbers, -100 where there is none (padding)."""
    outputs: Sequence[str] = ("probabilities",)
    """Name of the exported model's output."""
    metrics: Literal["classification", "tagging"] = "classification"
    """Which family scores the model; tagging reads `classes` as tags such as "B-PER"."""
    evaluation_rows: int = 1024
    """Rows scored at a time."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of parameters, of floating-point samples, and of everything computed from them."""

    def statistics(self, site: SiteData) -> Sums:  # noqa: ARG002 (for those who override it)
        """Sums over this site's rows that all sites' sums are added to; the default asks for none."""
        return {}

    def read(self, site: SiteData, statistics: Sums) -> Split:
        """Turn the site's data set into arrays."""
        raise NotImplementedError("give your task a method read(self, site, statistics) that returns a Split")

    def init(self, key: Key, statistics: Sums) -> Parameters:
        """Draw the first parameters; the same ones at every site."""
        raise NotImplementedError("give your task a method init(self, key, statistics) that returns parameters")

    def forward(self, params: Parameters, batch: Batch, key: Key | None) -> jax.Array:
        """Return the model's logits (rows, …, classes) for a batch; `key` is None where it is scored, not trained."""
        raise NotImplementedError("give your task a method forward(self, params, batch, key) that returns logits")

    def loss(self, params: Parameters, batch: Batch, key: Key) -> jax.Array:
        """Return the mean loss of a batch: cross-entropy, or its binary form where the model gives one logit a row."""
        require_names(batch, (self.label,))
        logits, target = self.forward(params, batch, key), batch[self.label]
        if is_binary(logits):
            one, truth = logits.reshape(-1), target.astype(logits.dtype)
            return jnp.mean(jnp.logaddexp(0, one) - truth * one)
        # No class is -100: such a row is all zeros, and counts for nothing.
        truth = jax.nn.one_hot(target, logits.shape[-1], dtype=logits.dtype)
        return -jnp.sum(truth * jax.nn.log_softmax(logits)) / jnp.sum(truth)

    def scores(self, params: Parameters, batch: Batch) -> jax.Array:
        """Return probabilities, the classes last."""
        logits = self.forward(params, batch, None)
        if is_binary(logits):
            one = jax.nn.sigmoid(logits.reshape(-1))
            return jnp.stack((1 - one, one), axis=1)
        return jax.nn.softmax(logits)

    def sums(self, scores: npt.NDArray[Any], batch: Samples) -> Sums:
        """Return the sums of one batch's scores; override for figures of your own ("mean.…")."""
        labels = np.asarray(batch[self.label])
        if self.metrics == "tagging":
            scores, labels = end_to_end(scores, labels)
        return self._family().sums(scores, labels.astype(np.int64))

    def no_sums(self) -> Sums:
        """Return the sums of a site without rows: zeros that can be added to the others'."""
        return self._family().sums(np.zeros((0, len(self.classes))), np.zeros(0, np.int64)) if self.classes else {}

    def parameter_groups(self) -> Mapping[str, float]:
        """Return multipliers of the learning rate by prefix of parameter names, as {"encoder.": 0.1}."""
        return {}

    def trainable(self, name: str) -> bool:  # noqa: ARG002
        """Say whether a parameter takes part; what does not stays as `init` made it and never travels."""
        return True

    def _family(self) -> MetricFamily:
        return Tagging(self.classes) if self.metrics == "tagging" else Classification()


def require_names(batch: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise a ShapeError where a batch lacks one of `names`."""
    for name in names:
        if name not in batch:
            raise ShapeError(f"a batch has no {name!r}", hint=f"read() gives {', '.join(batch)}")


def is_binary(logits: jax.Array) -> bool:
    """Say whether there is one logit a row."""
    return logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)
