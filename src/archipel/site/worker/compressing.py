"""A site's update on its way out: what was lost before is added, the codec writes it, and what is lost now is kept.

    sent     = C(delta + residue)
    residue' = delta + residue - sent

Seide et al. 2014, "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of
Speech DNNs"; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression Schemes",
arXiv:1901.09847, Algorithm 2. Over rounds it telescopes: what was sent is what was learnt, but for one residue.
"""

from __future__ import annotations

import msgspec
import numpy as np

from archipel.data.compression.port import Array, Codec, decoded
from archipel.data.compression.quantised import Quantised
from archipel.security.privacy import norm_of
from archipel.spec import Manifest, require_finite
from archipel.tasks.port import Vector

_PURPOSE = 0x636F6D70
"""Tells the stream of rounding from those of training, which have the same entropy, or that and a small number."""
_MARGIN = 1 - 1e-6
"""A scaled update keeps its bound though its values are rounded to float32."""


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """An update as it leaves, and what stays."""

    tensors: dict[str, Array]
    residue: Vector | None
    """What the codec lost, laid out as the delta; None: nothing is to be made up for."""


def compress(
    codec: Codec,
    delta: Vector,
    model: Manifest,
    entropy: tuple[int, ...],
    *,
    residue: Vector | None,
    bound: float | None,
) -> Compressed:
    """Compress one round's delta at one site; `entropy` is that of its work in the round.

    `bound` is the largest norm with which what was sent may arrive (int8 and int4, whose rounding may lengthen what was
    clipped); None: any.

    Raises:
        NonFiniteError: the delta holds NaN or infinity, or what no codec can write.
    """
    target = delta if residue is None else delta + residue
    require_finite("the update", target)
    tensors = codec.encode(target, model, np.random.default_rng((*entropy, _PURPOSE)))
    if codec.loses:
        return Compressed(tensors=tensors, residue=target - decoded(codec, tensors, model, target))
    if bound is not None and isinstance(codec, Quantised):
        norm = norm_of(decoded(codec, tensors, model, target))
        tensors = codec.scaled(tensors, bound / norm * _MARGIN) if norm > bound else tensors
    return Compressed(tensors=tensors, residue=None)
