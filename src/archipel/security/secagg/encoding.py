"""Fixed point: real numbers as whole levels that add modulo 2^32 and never wrap around.

Each field of a vector has a range [low, high]. A value x becomes the level round(x / step) - floor(low / step), which
is at least 0 and at most `levels`; step is the smallest power of two with

    sites * levels <= 2^32 - 1                                                                     (1)

so no sum over any of the sites reaches 2^32, whatever the values: wrap-around is impossible, not unlikely, and a value
outside the range is refused, not clipped. Powers of two make the rest exact: x / step loses no bit, a value that is a
multiple of step comes back as it was, and a sum of levels decodes to the sum of what each of them decodes to.

Rounding is stochastic (up with the chance of the part cut off, to 2^-16), so a sum's error has mean zero and standard
deviation of at most step * sqrt(sites) / 2.

A weighted average needs weights that nobody sees: each site scales its values by weight / weight_bound and adds the
weight as one more field, and the ratio of the two sums is the average.

Example:
    >>> import numpy as np
    >>> layout = Layout(sites=3, fields=(Field(name="loss", low=0.0, high=4.0),))
    >>> levels = layout.encode({"loss": np.array([2.5])}, weight=1.0, rounding=bytes(32))
    >>> layout.decode(3 * levels, sites=3)["loss"]
    array([7.5])
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from msgspec import Meta

from archipel.spec import NonFiniteError, ShapeError, SpecError, Value

MODULUS_BITS = 32
WEIGHT = "weight"
"""Name of the field that every layout ends with."""
BLOCK = 1 << 14
"""Values encoded at a time: the scratch memory stays in the cache."""
_FRACTION_BITS = 16

Levels = npt.NDArray[np.uint32]
Values = npt.NDArray[np.floating[Any]]


class Field(Value, frozen=True, kw_only=True):
    """A run of values with one range."""

    name: str
    count: Annotated[int, Meta(ge=1)] = 1
    low: float
    high: float
    weighted: bool = False
    """Are the values scaled by the site's weight before they are added?"""


class Grid(Value, frozen=True, kw_only=True):
    """How the values of one field become levels."""

    step: float
    """Distance of two levels, in the field's unit; a power of two."""
    base: int
    """What level 0 stands for, in steps."""
    levels: int
    """The largest level."""


class Layout(Value, frozen=True, kw_only=True):
    """The fields of a masked vector, one after another, and after them the weight."""

    sites: Annotated[int, Meta(ge=1)]
    """Most sites in a sum."""
    fields: tuple[Field, ...] = ()
    weight_bound: Annotated[float, Meta(gt=0)] = 1.0
    """Largest weight of a site; public."""

    @property
    def count(self) -> int:
        """Length of the vector."""
        return sum(field.count for field in self.all_fields)

    @property
    def all_fields(self) -> tuple[Field, ...]:
        """The fields, with that of the weight."""
        return (*self.fields, Field(name=WEIGHT, low=0.0, high=self.weight_bound))

    def grid(self, field: Field) -> Grid:
        """Return the grid of a field.

        Raises:
            SpecError: its range is empty or not finite, or there are too many sites for two levels each.
        """
        return grid_of(field, self.sites)

    def encode(self, values: Mapping[str, Values], *, weight: float, rounding: bytes) -> Levels:
        """Return the levels (uint32, `count` of them) of a site's values by field name.

        `rounding` is the AES-256 key of the stochastic rounding: secret, and used once.

        Raises:
            ShapeError: a field is missing or too many, or has another number of values.
            NonFiniteError: a value is NaN or infinite.
            SpecError: a value, or the weight, is outside its range.
        """
        given = {**values, WEIGHT: np.array([weight])}
        _require_names(set(given), {field.name for field in self.all_fields})
        chance = Cipher(algorithms.AES256(rounding), modes.CTR(bytes(16))).encryptor()
        result = np.empty(self.count, np.uint32)
        for field, part in self._parts(result):
            scale = weight / self.weight_bound if field.weighted else 1.0
            flat = np.asarray(given[field.name]).reshape(-1)
            _encode(field, self.grid(field), flat, part, scale=scale, chance=chance)
        return result

    def decode(self, total: Levels, *, sites: int) -> dict[str, npt.NDArray[np.float64]]:
        """Return the sums of each field over the `sites` whose levels were added up, in its own unit.

        A weighted field comes back as the sum of weight times value; divide by the sum of weights for the average.

        Raises:
            ShapeError: the total has another length.
            SpecError: more sites than the layout is made for.
        """
        if total.shape != (self.count,):
            raise ShapeError(f"a total of {total.shape} levels, {self.count} expected", hint="use the session's layout")
        if not 0 < sites <= self.sites:
            raise SpecError(f"a sum over {sites} sites, at most {self.sites}", hint="use the session's layout")
        sums: dict[str, npt.NDArray[np.float64]] = {}
        for field, part in self._parts(total):
            grid = self.grid(field)
            unit = grid.step * self.weight_bound if field.weighted else grid.step
            sums[field.name] = np.multiply(part.astype(np.int64) + sites * grid.base, unit, dtype=np.float64)
        return sums

    def _parts(self, vector: Levels) -> Iterator[tuple[Field, Levels]]:
        begin = 0
        for field in self.all_fields:
            yield field, vector[begin : begin + field.count]
            begin += field.count


def grid_of(field: Field, sites: int) -> Grid:
    """Return the finest grid of powers of two that cannot wrap around; see `Layout.grid`."""
    hint = "give the field a finite range, with fewer sites or a smaller bound"
    if not (math.isfinite(field.low) and math.isfinite(field.high) and field.low < field.high):
        raise SpecError(f"the range of {field.name!r} is {field.low} to {field.high}", hint=hint)
    most = (2**MODULUS_BITS - 1) // sites
    exponent = math.frexp((field.high - field.low) / max(most, 1))[1] - 1
    for step in (math.ldexp(1.0, exponent + more) for more in range(3)):
        if not sys.float_info.min <= step < math.inf:
            break
        base, top = math.floor(field.low / step), math.ceil(field.high / step)
        if top - base <= most:
            return Grid(step=step, base=base, levels=top - base)
    raise SpecError(f"no levels for {field.name!r} in a sum of {sites} sites", hint=hint)


def _encode(field: Field, grid: Grid, values: Values, out: Levels, *, scale: float, chance: CipherContext) -> None:
    if values.shape != out.shape:
        message = f"{field.name!r} has {values.size} values, {out.size} expected"
        raise ShapeError(message, hint="encode with the layout of the session's terms")
    exact, cut = np.empty(BLOCK), np.empty(BLOCK)
    zeros = bytes(2 * BLOCK)
    for begin in range(0, out.size, BLOCK):
        block = values[begin : begin + BLOCK]
        x, fraction = exact[: block.size], cut[: block.size]
        _require_range(field, block, begin, scale)
        np.multiply(block, scale / grid.step, out=x, dtype=np.float64)
        drawn = np.frombuffer(chance.update(zeros[: 2 * block.size]), np.dtype("<u2"))
        np.multiply(drawn, 2.0**-_FRACTION_BITS, out=fraction, dtype=np.float64)
        np.subtract(x, grid.base, out=x)
        np.add(x, fraction, out=x)
        out[begin : begin + block.size] = x  # no less than 0, so cutting off is rounding down


def _require_range(field: Field, block: Values, begin: int, scale: float) -> None:
    if field.low <= float(block.min()) * scale and float(block.max()) * scale <= field.high:  # false for NaN too
        return
    scaled = block.astype(np.float64) * scale
    bad = int(np.flatnonzero(~((scaled >= field.low) & (scaled <= field.high)))[0])
    what, value = f"{field.name!r}[{begin + bad}]", float(scaled[bad])
    if not math.isfinite(value):
        raise NonFiniteError(f"{what} is {value}", hint="lower the learning rate or clip gradients")
    weighted = "" if scale == 1.0 else f" (times the weight's share, {scale:.6g})"
    raise SpecError(
        f"{what} is {value:.9g}{weighted}, outside {field.low} to {field.high}: it is refused, a sum might wrap around",
        hint="clip updates to the range, or give the field a larger one",
    )


def _require_names(given: set[str], wanted: set[str]) -> None:
    if given != wanted:
        raise ShapeError(
            f"fields missing: {sorted(wanted - given)}, too many: {sorted(given - wanted)}",
            hint="encode with the layout of the session's terms",
        )
