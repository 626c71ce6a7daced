"""A site's policy: what is read, what is refused by name, and when it is time to work."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.spec import SpecError, UnknownNameError
from archipel.spec.policy import Hours, SitePolicy, read_policy
from archipel.spec.quantities import Size
from archipel.spec.schema import policy_schema

WHOLE = b"""
approve = "once"
secure_aggregation = true
least_sites = 5

[work]
datasets = ["penguins"]
names = ["islands"]
jobs = ["sha256:0123456789012345678901234567890123456789012345678901234567890123"]
bundles = ["sha256:0123456789012345678901234567890123456789012345678901234567890123"]

[epsilon]
run = 2.0
dataset = 8.0
delta = 1e-6
unit = "site"

[hours]
begin = "22:00"
end = "06:00"
zone = "UTC"

[limits]
cores = 2
memory = "8 GB"
disk = "20 GB"
network = "500 MB"
model = "100 MiB"
"""
REFUSED = [
    (b'aprove = "once"', UnknownNameError, "did you mean 'approve'?"),
    (b"[work]\ndataset = []", UnknownNameError, "did you mean 'datasets'?"),
    (b"[epsilon]\nruns = 2.0", UnknownNameError, "did you mean 'run'?"),
    (b"[epsilon]\ndataset = 2.0", SpecError, "archipel schema --policy"),
    (b'approve = "sometimes"', SpecError, "archipel schema --policy"),
    (b"least_sites = 0", SpecError, "archipel schema --policy"),
    (b"[epsilon]\nrun = inf", SpecError, "finite"),
    (b'[work]\njobs = ["islands"]', SpecError, "archipel schema --policy"),
    (b'[hours]\nbegin = "24:00"\nend = "06:00"', SpecError, "archipel schema --policy"),
    (b'[hours]\nbegin = "9:00"\nend = "06:00"', SpecError, "archipel schema --policy"),
    (b'[hours]\nbegin = "09:00"\nend = "06:00"\nzone = "Europe/Vien"', SpecError, "Europe/Vienna"),
    (b'[hours]\nbegin = "09:00"\nend = "06:00"\nzone = "../../etc/passwd"', SpecError, "Europe/Vienna"),
    (b'[limits]\nmemory = "8 s"', SpecError, "give it in B"),
    (b'[limits]\nmemory = "0 B"', SpecError, "leave out"),
    (b"[limits]\nmemory = 8", SpecError, "with a unit"),
    (b"approve", SpecError, "mend the line"),
    (b"\xff", SpecError, "mend the line"),
]
MINUTES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
MOMENTS = st.integers(0, 4 * 10**9).map(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC))


def test_every_key_is_read() -> None:
    policy = read_policy(WHOLE, "policy.toml")
    assert (policy.approve, policy.secure_aggregation, policy.least_sites) == ("once", True, 5)
    assert policy.work.datasets == ("penguins",)
    assert policy.epsilon is not None
    assert (policy.epsilon.run, policy.epsilon.dataset, policy.epsilon.delta) == (2.0, 8.0, 1e-6)
    assert (policy.limits.memory, policy.limits.model) == (Size(8e9), Size(100 * 2**20))


def test_an_empty_file_is_the_defaults() -> None:
    assert read_policy(b"", "policy.toml") == SitePolicy()


@pytest.mark.parametrize(("text", "error", "hint"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_is_not_valid_is_refused_with_its_file_and_the_way_on(
    text: bytes, error: type[SpecError], hint: str
) -> None:
    with pytest.raises(error) as refused:
        read_policy(text, "policy.toml")
    assert type(refused.value) is error
    told = refused.value.message + refused.value.hint
    assert "policy.toml" in told or "inf" in told
    assert hint in told


@pytest.mark.parametrize(
    ("zone", "at", "is_open"),
    [
        ("UTC", "2026-01-10T21:59:59+00:00", False),
        ("UTC", "2026-01-10T22:00:00+00:00", True),
        ("UTC", "2026-01-11T05:59:59+00:00", True),
        ("UTC", "2026-01-11T06:00:00+00:00", False),
        ("UTC", "2026-01-10T23:00:00+02:00", False),  # 21:00 UTC
        ("Europe/Vienna", "2026-01-10T20:59:00+00:00", False),  # one hour ahead in winter …
        ("Europe/Vienna", "2026-01-10T21:00:00+00:00", True),
        ("Europe/Vienna", "2026-07-10T20:00:00+00:00", True),  # … and two in summer
        ("Europe/Vienna", "2026-07-10T04:00:00+00:00", False),
    ],
)
def test_hours_wrap_over_midnight_in_their_own_zone(zone: str, at: str, *, is_open: bool) -> None:
    night = Hours(begin="22:00", end="06:00", zone=zone)
    assert night.is_open(dt.datetime.fromisoformat(at)) is is_open


@given(MINUTES, MINUTES, MOMENTS)
def test_a_day_is_made_of_the_hours_and_of_those_the_other_way_round(begin: str, end: str, now: dt.datetime) -> None:
    opened = Hours(begin=begin, end=end, zone="UTC").is_open(now)
    turned = Hours(begin=end, end=begin, zone="UTC").is_open(now)
    assert (opened, turned) == (True, True) if begin == end else opened is not turned


@given(MINUTES, MINUTES, MOMENTS)
def test_local_hours_are_those_of_this_machine(begin: str, end: str, now: dt.datetime) -> None:
    local = Hours(begin=begin, end=end).is_open(now)
    here = now.astimezone().strftime("%H:%M")
    moved = dt.datetime.fromisoformat(f"2026-01-01T{here}:00+00:00")
    assert local is Hours(begin=begin, end=end, zone="UTC").is_open(moved)


def test_editors_are_told_every_key() -> None:
    document = policy_schema()["$defs"]["SitePolicy"]
    assert set(document["properties"]) == {
        "approve",
        "secure_aggregation",
        "least_sites",
        "peers",
        "helpers",
        "work",
        "epsilon",
        "hours",
        "sandbox",
        "limits",
    }
    assert not document.get("required")
