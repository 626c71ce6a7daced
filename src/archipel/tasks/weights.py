"""Weights against the manifest of the model at hand: the one check before numbers are put into a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archipel.spec import Manifest, ShapeError
from archipel.tasks.port import Vector, Weights


def require_manifest(weights: Weights, manifest: Manifest) -> None:
    """Raise a ShapeError that names the first difference between `weights` and a model laid out as `manifest`."""
    if weights.manifest != manifest:
        raise ShapeError(
            f"the weights are not of this model: {_difference(weights.manifest, manifest)}",
            hint="the task's model must not depend on the site; options and statistics must be those of the run",
        )
    require_vector("the weights", weights.vector, manifest)


def require_vector(what: str, vector: Vector, manifest: Manifest) -> None:
    """Raise a ShapeError where `vector` has not the length and dtype of `manifest`."""
    count = sum(tensor.count for tensor in manifest.tensors)
    dtype: npt.DTypeLike = manifest.uniform_dtype() if manifest.tensors else np.float32
    if vector.shape != (count,) or vector.dtype != dtype:
        raise ShapeError(
            f"{what}: {vector.dtype} of shape {vector.shape}, needed {dtype} of shape ({count},)",
            hint="send one flat vector laid out by the manifest",
        )


def _difference(got: Manifest, needed: Manifest) -> str:
    for mine, theirs in zip(needed.tensors, got.tensors, strict=False):
        if mine != theirs:
            return (
                f"tensor {theirs.name!r} is {theirs.dtype}{list(theirs.shape)} where "
                f"{mine.name!r} is {mine.dtype}{list(mine.shape)}"
            )
    return f"{len(got.tensors)} tensors where {len(needed.tensors)} are needed"
