"""Quantities against numbers worked by hand, and what must not mix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.spec.errors import SpecError, UnknownNameError
from archipel.spec.quantities import (
    Bandwidth,
    Compute,
    Duration,
    Energy,
    Money,
    Power,
    Price,
    Quantity,
    Size,
    SizePrice,
    Throughput,
    Work,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Compute, "10 GFLOPS", 10e9),
        (Compute, "10GFLOP/s", 10e9),
        (Size, "10 TB", 10e12),
        (Size, "1 KiB", 1024),
        (Size, "8 Mb", 1e6),
        (Bandwidth, "25 Gb/s", 3.125e9),
        (Bandwidth, "5 GB/s", 5e9),
        (Bandwidth, "60 MB/min", 1e6),
        (Duration, "1.5 ms", 0.0015),
        (Duration, "2 h", 7200),
        (Power, "1 kW", 1000),
        (Energy, "1 kWh", 3.6e6),
        (Work, "1,000 GFLOP", 1e12),
        (Throughput, "100 TPS", 100),
        (Throughput, "6000 transactions/min", 100),
        (Price, "3.6 EUR/h", 0.001),
        (SizePrice, "0.08 USD/GB", 8e-11),
    ],
)
def test_text_means_its_base_units(kind, text, value):
    assert kind.parse(text).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "text", "error", "message", "hint"),
    [
        (Compute, "100 TPS", SpecError, "'100 TPS' counts transactions/s where FLOP/s are needed", "work_per_transact"),
        (Compute, "5 GFLOP", SpecError, "counts FLOP where FLOP/s", "FLOP is work, FLOPS is work for a second"),
        (Size, "5 GB/s", SpecError, "counts B/s where B are needed", '"1 PB"'),
        (Price, "5 W", SpecError, "counts W where money/s", '"1 EUR/h"'),
        (Bandwidth, "5 Gbps", UnknownNameError, "unknown unit 'Gbps'", ""),
        (Compute, "5 GFLUPS", UnknownNameError, "unknown unit 'GFLUPS'", "'GFLOPS'"),
        (Size, "much", SpecError, "no number with a unit", '"1.5 PB"'),
        (Size, "1,5 GB", SpecError, "'1,5 GB' is no number with a unit", "as text"),
        (Size, "1,50,000 GB", SpecError, "no number with a unit", "as text"),
        (Size, 5, SpecError, "5 is no number with a unit", "as text"),
        (Size, "-5 GB", SpecError, "no number with a unit", ""),
        (Size, "5", SpecError, "no number with a unit", ""),
        (Size, "9e999 B", SpecError, "inf B is no amount", "finite"),
    ],
)
def test_other_text_is_refused_by_name_with_a_hint(kind, text, error, message, hint):
    with pytest.raises(error) as caught:
        kind.parse(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_kinds_combine_to_what_they_mean():
    assert Size.parse("10 TB").over(Bandwidth.parse("25 Gb/s")) == Duration(3200)
    assert Size.parse("10 TB").within(Duration(8000)) == Bandwidth.parse("1.25 GB/s")
    assert Work.parse("1 TFLOP").over(Compute.parse("4 GFLOPS")) == Duration(250)
    assert Throughput.parse("100 TPS").of(Work.parse("1 TFLOP")) == Compute.parse("100 TFLOPS")
    assert Power.parse("250 W").during(Duration.parse("1 h")) == Energy(900_000)
    assert Price.parse("3.6 EUR/h").during(Duration(10)).value == pytest.approx(0.01)
    assert SizePrice.parse("0.08 EUR/GB").of(Size.parse("10 GB")).value == pytest.approx(0.8)


def test_a_quantity_is_shown_in_the_unit_it_was_written_in_and_a_computed_one_in_one_that_suits_it():
    assert str(Compute.parse("4 GFLOPS") * 100 + Compute.parse("5 GFLOPS") * 300) == "1,900 GFLOPS"
    assert str(Size.parse("10 TB").within(Duration(8000))) == "1.25 GB/s"
    assert str(Power.parse("250 W").during(Duration.parse("2 h"))) == "500 Wh"
    assert str(Money(0.8, "EUR")) == "0.8 EUR"
    assert str(Bandwidth(0)) == "0 B/s"


def test_kinds_and_currencies_do_not_mix():
    for one, other in [
        (Size(1), Bandwidth(1)),
        (Money(1, "EUR"), Money(1, "USD")),
        (Size(1), 1.0),
    ]:
        for operation in ("__add__", "__sub__", "__truediv__", "__lt__", "__le__"):
            with pytest.raises(SpecError):
                getattr(one, operation)(other)
    assert Size(1) != Bandwidth(1)
    assert len({Size(1), Size(1, unit="GB"), Bandwidth(1)}) == 2


def test_a_quantity_does_not_change():
    with pytest.raises(AttributeError):
        Size(1).value = 2


@given(st.floats(1e-3, 1e15), st.sampled_from([Size, Bandwidth, Compute, Work, Power, Energy]))
def test_what_is_shown_reads_back_as_nearly_the_same(value, kind: type[Quantity]):
    assert kind.parse(str(kind(value))).value == pytest.approx(value, rel=1e-3)
