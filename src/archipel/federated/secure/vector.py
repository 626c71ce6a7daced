"""What a site's vector holds under secure aggregation, and how its total becomes sums again.

    update      the change of the weights, times weight / bound: multiples of the layout's step, (parameters,)
    sums        everything else that adds (loss, counts, statistics, scores), exactly: DIGITS whole numbers a value
    weight      the site's weight, a multiple of the layout's step

Values are rounded to the nearest step before the protocol sees them, so its random rounding has nothing to do: equal
updates have equal totals, live and simulated, whatever the keys. A total is off the plain sum by at most half a step
a site. The bound of the weights is a power of two, so dividing by it rounds nothing.

A value x of `sums` is the whole number round(x * 2^72) + 2^143, in DIGITS digits of 16 bits: sums of up to 65,537
sites stay below 2^32 in each digit, and every sum of magnitudes below 2^71 is exact to 2^-72.

Example:
    >>> digits_of(np.array([1.5, -2.0])).shape
    (18,)
    >>> values_of(digits_of(np.array([1.5])) + digits_of(np.array([-2.0])), sites=2)
    array([-0.5])
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archipel.federated.secure.shared_noise import SharedNoise, widest
from archipel.security.secagg import WEIGHT, Field, Layout, Levels
from archipel.spec import JobSpec, Manifest, NonFiniteError, SpecError, Value, manifest_of

UPDATE, SUMS = "update", "sums"
DIGIT_BITS, DIGITS, FRACTION_BITS = 16, 9, 72
_OFFSET = 1 << (DIGIT_BITS * DIGITS - 1)
Array = npt.NDArray[Any]
Sums = Mapping[str, Array]


class Prepared(Value, frozen=True, kw_only=True, tag_field="type", tag="secagg-prepared/1"):
    """A site's answer to the first leg: its own answer is made and stays there. Nothing here comes from its rows."""

    certificate: str
    """PEM; the session's terms name its fingerprint."""
    manifest: str | None = None
    """Digest of the manifest of the weights; None where no weights change."""
    parameters: int = 0
    sums: Manifest
    """Names and shapes of what else is summed, sorted by name; all float64."""


def fields_of(job: JobSpec, prepared: Prepared) -> tuple[Field, ...]:
    """Return the fields of a vector, without the weight that every layout ends with."""
    edge, count = _edge(job), DIGITS * _size(prepared.sums)
    update = [Field(name=UPDATE, count=prepared.parameters, low=-edge, high=edge)] if prepared.parameters else []
    sums = [Field(name=SUMS, count=count, low=0.0, high=2.0**DIGIT_BITS - 1)] if count else []
    return (*update, *sums)


def _edge(job: JobSpec) -> float:
    noisy = job.privacy.distributed
    return job.privacy.update_range if noisy is None else widest(noisy)


def manifest_of_sums(sums: Sums) -> Manifest:
    """Lay out sums by name, as float64."""
    return manifest_of((name, np.shape(sums[name]), np.dtype(np.float64)) for name in sorted(sums))


def encode_answer(
    layout: Layout, update: Array | None, sums: Sums, weight: float, noise: SharedNoise | None = None
) -> tuple[dict[str, Array], float]:
    """Return a site's values by field, and its weight, as `SiteSession.mask` takes them.

    With `noise` the update is clipped, and has the site's share of it.

    Raises:
        NonFiniteError: a value is NaN or infinite.
        SpecError: a change of a weight is outside [privacy] update_range, or the site's weight above the bound; the
            steps are too coarse for the noise.
    """
    fields = {field.name: field for field in layout.all_fields}
    step = layout.grid(fields[WEIGHT]).step
    weight = round(weight / step) * step
    values: dict[str, Array] = {}
    if update is not None:
        field = fields[UPDATE]
        step = layout.grid(field).step
        share = weight / layout.weight_bound
        if noise is not None:
            _require_range(update, math.inf)
            scaled = noise.on(update, step=step, share=share)
        else:
            _require_range(update, field.high)
            scaled = np.multiply(update, share, dtype=np.float64)
            np.multiply(np.rint(np.divide(scaled, step, out=scaled), out=scaled), step, out=scaled)
        edge = math.floor(field.high / step) * step
        values[UPDATE] = np.clip(scaled, -edge, edge, out=scaled)
    if SUMS in fields:
        flat = [np.asarray(sums[name], np.float64).ravel() for name in sorted(sums)]
        values[SUMS] = digits_of(np.concatenate(flat))
    return values, weight


def require_in_range(update: Array, job: JobSpec) -> None:
    """Refuse an update with a change outside [privacy] update_range (one that will be clipped may have it), or NaN."""
    _require_range(update, job.privacy.update_range if job.privacy.distributed is None else math.inf)


def _require_range(update: Array, edge: float) -> None:
    most = float(np.max(np.abs(update), initial=0.0))
    if not math.isfinite(most):
        raise NonFiniteError("the update holds NaN or infinity", hint="lower the learning rate, or set clip_norm")
    if most > edge:
        raise SpecError(
            f"a weight changed by {most:g}, more than [privacy] update_range = {edge:g} lets secure aggregation add",
            hint="raise update_range, lower the learning rate, or set [federation.local] clip_norm",
        )


class Total(NamedTuple):
    """What the vectors of some sites add up to."""

    weight: float
    update: Array | None
    """The weighted mean change of the weights, float64 (parameters,); None: none was summed, or nobody has weight."""
    sums: dict[str, Array]


def decode_total(layout: Layout, manifest: Manifest, total: Levels, *, sites: int) -> Total:
    """Return the sums of `sites` sites, whose unmasked total this is; see `Layout.decode`."""
    found = layout.decode(total, sites=sites)
    weight = float(found[WEIGHT][0])
    update = found.get(UPDATE)
    if update is not None and weight > 0:
        np.multiply(update, layout.weight_bound / weight, out=update)
    values = values_of(found[SUMS], sites=sites) if SUMS in found else np.empty(0)
    sums, begin = {}, 0
    for tensor in manifest.tensors:
        sums[tensor.name] = values[begin : begin + tensor.count].reshape(tensor.shape)
        begin += tensor.count
    return Total(weight=weight, update=update, sums=sums)


def digits_of(values: Array) -> Array:
    """Return the digits of float64 values, least significant first: (DIGITS * size,) float64."""
    if not np.isfinite(values).all():
        raise NonFiniteError("a sum holds NaN or infinity", hint="let the task leave out missing values")
    if np.any(np.abs(values) >= 2.0 ** (DIGIT_BITS * DIGITS - 1 - FRACTION_BITS)):
        raise SpecError("a sum is too large for secure aggregation", hint="let the task return smaller sums")
    whole = [round(math.ldexp(value, FRACTION_BITS)) + _OFFSET for value in values.tolist()]
    raw = b"".join(number.to_bytes(DIGIT_BITS * DIGITS // 8, "little") for number in whole)
    return np.frombuffer(raw, np.dtype("<u2")).astype(np.float64)


def values_of(digits: Array, *, sites: int) -> Array:
    """Return the values that added digits of `sites` sites stand for, each rounded once to float64."""
    found = []
    for place in range(0, digits.size, DIGITS):
        whole = sum(int(digit) << (DIGIT_BITS * index) for index, digit in enumerate(digits[place : place + DIGITS]))
        found.append((whole - sites * _OFFSET) / (1 << FRACTION_BITS))
    return np.array(found)


def _size(manifest: Manifest) -> int:
    return sum(tensor.count for tensor in manifest.tensors)
