"""Numbers with their unit: what they count is their type, so that bytes are never added to FLOPs.

    >>> Size.parse("10 TB").over(Bandwidth.parse("25 Gb/s"))
    Duration('3,200 s')
    >>> str(Compute.parse("4 GFLOPS") * 100 + Compute.parse("5 GFLOPS") * 200)
    '1,400 GFLOPS'
    >>> Compute.parse("100 TPS")
    Traceback (most recent call last):
    archipel.spec.errors.SpecError: '100 TPS' counts transactions/s where FLOP/s are needed

Rules: B is a byte and b is a bit, k, M, G, T, P and E are powers of ten, Ki, Mi, Gi and Ti of 1024; a value is kept in
its base unit (FLOP, B, s, W, J, transactions, and money in its own currency) and shown in the unit it was written in, a
computed one in the unit that suits its size. Adding or comparing two kinds, or two currencies, is a SpecError.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Self

from archipel.spec.errors import SpecError, UnknownNameError

_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9_]+)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"  # "1,5" is no number: is it 1.5 or 15?
_TEXT = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z].*?)\s*", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}")
_FAMILIES = {  # symbol that takes prefixes → what it counts, in base units
    "FLOP": ("FLOP", 1.0),
    "FLOPS": ("FLOP/s", 1.0),
    "B": ("B", 1.0),
    "b": ("B", 1 / 8),
    "bit": ("B", 1 / 8),
    "W": ("W", 1.0),
    "J": ("J", 1.0),
    "Wh": ("J", 3600.0),
    "TPS": ("transactions/s", 1.0),
}
_PLAIN = {
    "ms": ("s", 1e-3),
    "us": ("s", 1e-6),
    "s": ("s", 1.0),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "d": ("s", 86400.0),
    "transaction": ("transactions", 1.0),
    "transactions": ("transactions", 1.0),
}


def _units() -> dict[str, tuple[str, float]]:
    known = {**_PLAIN, **_FAMILIES}
    for symbol, (counted, factor) in _FAMILIES.items():
        known |= {prefix + symbol: (counted, factor * size) for prefix, size in _PREFIXES.items()}
    return known | {prefix + "B": ("B", size) for prefix, size in _BINARY.items()}


_UNITS = _units()


class Quantity:
    """A number that knows what it counts; its subclasses say what."""

    counts: ClassVar[str] = ""
    """The base unit; "money" stands for the currency."""
    shown_in: ClassVar[tuple[str, ...]] = ()
    """Units for people, from small to large."""

    value: float
    currency: str
    unit: str

    __slots__ = ("currency", "unit", "value")

    def __init__(self, value: float, currency: str = "", unit: str = "") -> None:
        """Keep `value` base units; `unit` is the one it is shown in, empty: one that suits its size."""
        if not math.isfinite(value):
            raise SpecError(f"{value} {self.counts} is no amount", hint="give a finite number")
        for name, given in (("value", value), ("currency", currency), ("unit", unit)):
            object.__setattr__(self, name, given)

    def __setattr__(self, name: str, _: object) -> None:
        raise AttributeError(f"a quantity does not change, nor does its {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read text such as "5 GB/s".

        Raises:
            SpecError: no number with a unit, or a unit of another kind.
            UnknownNameError: a unit nobody knows.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            example = cls.shown_in[-1].replace("money", "EUR")
            raise SpecError(f"{text!r} is no number with a unit", hint=f'write it as text, such as "1.5 {example}"')
        number, unit = found.groups()
        counted, factor, currency = _meaning(unit)
        if counted != cls.counts:
            raise SpecError(f"{text!r} counts {counted} where {cls.counts} are needed", hint=_advice(counted, cls))
        return cls(float(re.sub("[,_]", "", number)) * factor, currency, unit)

    def __add__(self, other: Self) -> Self:
        self._require_same(other)
        return type(self)(self.value + other.value, self.currency, self.unit)

    def __sub__(self, other: Self) -> Self:
        self._require_same(other)
        return type(self)(self.value - other.value, self.currency, self.unit)

    def __mul__(self, factor: float) -> Self:
        return type(self)(self.value * factor, self.currency, self.unit)

    def __truediv__(self, other: Self) -> float:
        """Return how many times `other` is in it."""
        self._require_same(other)
        return self.value / other.value

    def __lt__(self, other: Self) -> bool:
        self._require_same(other)
        return self.value < other.value

    def __le__(self, other: Self) -> bool:
        self._require_same(other)
        return self.value <= other.value

    def __str__(self) -> str:
        unit = self.unit or self._suiting()
        number = f"{self.value / _meaning(unit)[1]:.4g}"
        if "e" in number or abs(float(number)) >= 1000:
            number = f"{self.value / _meaning(unit)[1]:,.0f}"
        return f"{number} {unit}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _key(self) -> tuple[type[Quantity], float, str]:
        return type(self), self.value, self.currency

    def _suiting(self) -> str:
        units = [unit.replace("money", self.currency) for unit in self.shown_in]
        fitting = [unit for unit in units if abs(self.value) >= _meaning(unit)[1]]
        return fitting[-1] if fitting else units[0]

    def _require_same(self, other: object) -> None:
        if type(other) is not type(self):
            what = other.counts if isinstance(other, Quantity) else "plain numbers"
            raise SpecError(f"{self.counts} and {what} do not add or compare", hint="compare like with like")
        if self.currency != other.currency:
            raise SpecError(f"{self.currency} and {other.currency} do not add", hint="give all prices in one currency")


class Duration(Quantity):
    """Time."""

    __slots__ = ()
    counts: ClassVar[str] = "s"
    shown_in: ClassVar[tuple[str, ...]] = ("us", "ms", "s")


class Money(Quantity):
    """An amount in one currency."""

    __slots__ = ()
    counts: ClassVar[str] = "money"
    shown_in: ClassVar[tuple[str, ...]] = ("money",)


class Price(Quantity):
    """Money for time."""

    __slots__ = ()
    counts: ClassVar[str] = "money/s"
    shown_in: ClassVar[tuple[str, ...]] = ("money/h",)

    def during(self, time: Duration) -> Money:
        """Return what `time` costs."""
        return Money(self.value * time.value, self.currency)


class Energy(Quantity):
    """Energy."""

    __slots__ = ()
    counts: ClassVar[str] = "J"
    shown_in: ClassVar[tuple[str, ...]] = ("J", "Wh", "kWh", "MWh")


class Power(Quantity):
    """Energy for time."""

    __slots__ = ()
    counts: ClassVar[str] = "W"
    shown_in: ClassVar[tuple[str, ...]] = ("W", "kW", "MW")

    def during(self, time: Duration) -> Energy:
        """Return what `time` takes."""
        return Energy(self.value * time.value)


class Bandwidth(Quantity):
    """Bytes for time, of a link or of a disk."""

    __slots__ = ()
    counts: ClassVar[str] = "B/s"
    shown_in: ClassVar[tuple[str, ...]] = ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")


class Size(Quantity):
    """Bytes."""

    __slots__ = ()
    counts: ClassVar[str] = "B"
    shown_in: ClassVar[tuple[str, ...]] = ("B", "kB", "MB", "GB", "TB", "PB")

    def over(self, bandwidth: Bandwidth) -> Duration:
        """Return how long they take."""
        return Duration(self.value / bandwidth.value, unit="s")

    def within(self, time: Duration) -> Bandwidth:
        """Return how fast they move where they take `time`."""
        return Bandwidth(self.value / time.value)


class SizePrice(Quantity):
    """Money for bytes that leave a place."""

    __slots__ = ()
    counts: ClassVar[str] = "money/B"
    shown_in: ClassVar[tuple[str, ...]] = ("money/GB",)

    def of(self, size: Size) -> Money:
        """Return what `size` costs."""
        return Money(self.value * size.value, self.currency)


class Compute(Quantity):
    """Floating-point operations for time."""

    __slots__ = ()
    counts: ClassVar[str] = "FLOP/s"
    shown_in: ClassVar[tuple[str, ...]] = ("FLOPS", "kFLOPS", "MFLOPS", "GFLOPS", "TFLOPS", "PFLOPS", "EFLOPS")


class Work(Quantity):
    """Floating-point operations."""

    __slots__ = ()
    counts: ClassVar[str] = "FLOP"
    shown_in: ClassVar[tuple[str, ...]] = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")

    def over(self, compute: Compute) -> Duration:
        """Return how long it takes."""
        return Duration(self.value / compute.value, unit="s")


class Throughput(Quantity):
    """Transactions for time."""

    __slots__ = ()
    counts: ClassVar[str] = "transactions/s"
    shown_in: ClassVar[tuple[str, ...]] = ("TPS",)

    def of(self, work: Work) -> Compute:
        """Return what must be computed where each transaction takes `work`."""
        return Compute(self.value * work.value)


def _meaning(unit: str) -> tuple[str, float, str]:
    """Return what a unit counts, how many base units it is, and its currency."""
    over, _, under = unit.replace(" ", "").partition("/")
    currency = over if _CURRENCY.fullmatch(over) and over not in _UNITS else ""
    counted, factor = ("money", 1.0) if currency else _known(over)
    if under:
        below, size = _known(under)
        counted, factor = f"{counted}/{below}", factor / size
    return counted, factor, currency


def _known(symbol: str) -> tuple[str, float]:
    if symbol not in _UNITS:
        raise UnknownNameError.of("unit", symbol, _UNITS)
    return _UNITS[symbol]


def _advice(counted: str, wanted: type[Quantity]) -> str:
    if counted == "transactions/s" and wanted is Compute:
        return 'say how much a transaction takes: `transactions` = this, `work_per_transaction` such as "2 GFLOP"'
    if {counted, wanted.counts} == {"FLOP", "FLOP/s"}:
        return "FLOP is work, FLOPS is work for a second"
    return f'give it in {wanted.counts}, such as "1 {wanted.shown_in[-1]}"'.replace("money", "EUR")


def read_quantity(kind: type, text: Any) -> Quantity:
    """Read a quantity above 0 where msgspec finds one in a document (its `dec_hook`)."""
    if not issubclass(kind, Quantity):
        raise NotImplementedError(kind)
    try:
        return _above_zero(kind.parse(text))
    except SpecError as error:
        raise ValueError(str(error)) from error  # msgspec adds the place to this kind only


def _above_zero(found: Quantity) -> Quantity:
    if found.value <= 0:
        raise SpecError(f"'{found}' is not above 0", hint="leave out what is not there")
    return found
