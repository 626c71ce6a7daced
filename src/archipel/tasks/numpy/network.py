"""A small dense network: its description, the layout of its weights, forward and backward.

    x → (x - mean) / scale, missing (NaN) → 0 → [ · W + b → tanh or relu ] per hidden layer → · W + b → softmax

Weights are views into one flat vector, gradients views into another; a batch's intermediate results go into buffers
that are made once. The loss is the mean cross-entropy of a batch.

Example:
    >>> Network(inputs=4, hidden=(16,), outputs=3).layout()[0]
    ('layer0.weight', (4, 16))
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.spec import Manifest, ShapeError, manifest_of
from archipel.spec.tensors import views

Array = npt.NDArray[Any]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What a NumpyTask's `model` returns. No hidden layer: softmax regression."""

    inputs: int
    outputs: int
    hidden: tuple[int, ...] = ()
    activation: Literal["tanh", "relu"] = "tanh"
    mean: Array | None = None
    """Subtracted from each input; shape (inputs,). None: 0."""
    scale: Array | None = None
    """Each input is divided by it; shape (inputs,). None: 1."""
    dtype: Literal["float32", "float64"] = "float32"

    def layout(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return name and shape of each weight, in order."""
        sides = (self.inputs, *self.hidden, self.outputs)
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for layer, (below, above) in enumerate(itertools.pairwise(sides)):
            shapes += [(f"layer{layer}.weight", (below, above)), (f"layer{layer}.bias", (above,))]
        return shapes

    def manifest(self) -> Manifest:
        """Return the layout of the flat vector."""
        return manifest_of((name, shape, np.dtype(self.dtype)) for name, shape in self.layout())

    def check(self) -> None:
        """Raise a ShapeError where the description contradicts itself."""
        sides = (self.inputs, *self.hidden, self.outputs)
        if any(not isinstance(side, int) or side < 1 for side in sides) or self.outputs < 2:
            raise ShapeError(f"a network of widths {sides}", hint="at least 1 input, 1 unit a layer and 2 outputs")
        if self.activation not in {"tanh", "relu"} or self.dtype not in {"float32", "float64"}:
            raise ShapeError(
                f"activation {self.activation!r}, dtype {self.dtype!r}",
                hint="activation is 'tanh' or 'relu', dtype 'float32' or 'float64'",
            )
        for name, constants in (("mean", self.mean), ("scale", self.scale)):
            if constants is not None and np.shape(constants) != (self.inputs,):
                raise ShapeError(
                    f"{name} has shape {np.shape(constants)}, the network {self.inputs} inputs",
                    hint="give one number an input",
                )

    def initial(self, seed: int) -> Array:
        """Return the first weights: Glorot's uniform draw for matrices, zeros for biases."""
        rng = np.random.default_rng(seed)
        parts = []
        for _, shape in self.layout():
            if len(shape) == 1:
                parts.append(np.zeros(shape))
                continue
            bound = np.sqrt(6.0 / sum(shape))
            parts.append(rng.uniform(-bound, bound, shape).ravel())
        return np.concatenate(parts).astype(self.dtype)

    def scaled(self, raw: Array) -> Array:
        """Return inputs as the first layer takes them, computed in the network's dtype as the exported model does."""
        scaled = np.array(raw, dtype=self.dtype)
        if self.mean is not None:
            scaled -= self.mean.astype(self.dtype)
        if self.scale is not None:
            scaled /= self.scale.astype(self.dtype)
        # A missing feature counts as the mean of all sites.
        scaled[np.isnan(scaled)] = 0
        return scaled


class Pass:
    """Forward and backward of one network for batches of up to `rows` rows, on vectors given once."""

    def __init__(self, network: Network, vector: Array, gradient: Array, rows: int) -> None:
        self._relu = network.activation == "relu"
        weights = list(views(vector, network.manifest()).values())
        slopes = list(views(gradient, network.manifest()).values())
        self._matrices, self._biases = weights[0::2], weights[1::2]
        self._matrix_slopes, self._bias_slopes = slopes[0::2], slopes[1::2]
        widths = (*network.hidden, network.outputs)
        self._outs = [np.empty((rows, width), network.dtype) for width in widths]
        self._backs = [np.empty((rows, width), network.dtype) for width in widths]

    def scores(self, inputs: Array) -> Array:
        """Return class probabilities (rows, outputs), in a buffer that the next call overwrites."""
        scores = self._logits(inputs)
        _softmax(scores)
        return scores

    def _logits(self, inputs: Array) -> Array:
        """Return logits less the largest of their row, in the same buffer."""
        rows = len(inputs)
        below = inputs
        last = len(self._outs) - 1
        for layer, (matrix, bias) in enumerate(zip(self._matrices, self._biases, strict=True)):
            out = self._outs[layer][:rows]
            np.matmul(below, matrix, out=out)
            out += bias
            if layer == last:
                out -= out.max(axis=1, keepdims=True)
            elif self._relu:
                np.maximum(out, 0, out=out)
            else:
                np.tanh(out, out=out)
            below = out
        return below

    def learn(self, inputs: Array, labels: Array) -> float:
        """Put the gradient of the batch's mean loss into the gradient vector; return the loss summed over rows."""
        scores = self._logits(inputs)
        rows = len(inputs)
        places = np.arange(rows)
        # -log p = log(sum of exp) - logit: finite also where p itself is too small for its dtype.
        loss = -float(scores[places, labels].sum(dtype=np.float64))
        loss += float(np.log(_softmax(scores), dtype=np.float64).sum())
        back = self._backs[-1][:rows]
        np.copyto(back, scores)
        back[places, labels] -= 1
        back /= rows
        for layer in range(len(self._matrices) - 1, -1, -1):
            below = self._outs[layer - 1][:rows] if layer else inputs
            np.matmul(below.T, back, out=self._matrix_slopes[layer])
            np.sum(back, axis=0, out=self._bias_slopes[layer])
            if layer:
                back = self._descend(layer, back, below)
        return loss

    def _descend(self, layer: int, back: Array, below: Array) -> Array:
        """Carry the gradient through the activation under `layer`."""
        lower = self._backs[layer - 1][: len(back)]
        np.matmul(back, self._matrices[layer].T, out=lower)
        if self._relu:
            lower *= below > 0
        else:
            lower *= 1 - below * below
        return lower


def _softmax(logits: Array) -> Array:
    """Turn shifted logits into probabilities, in place; return each row's sum of exponentials."""
    np.exp(logits, out=logits)
    totals: Array = logits.sum(axis=1, keepdims=True)
    logits /= totals
    return totals
