"""Ten thousand phones: the compute times of 952 real ones, and drawn links.

The times are ai_benchmark_devices_venn.csv (from Venn, MIT): milliseconds an example. Links are log-normal, with a
median of 6.1 Mbit/s and sigma 1.1, one draw for both directions.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec

PHONES = "ai_benchmark_devices_venn.csv"
LINKS = {"down_mbps": 6.1, "up_mbps": 6.1, "mbps_sigma": 1.1}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One way of ending rounds and asking clients."""

    name: str
    time: dict[str, Any]
    """[simulation.time], but for the devices."""


POLICIES = (
    Policy(name="wait for all", time={"mode": "synchronous"}),
    Policy(name="over-select 1.3", time={"mode": "deadline", "over_selection": 1.3}),
    Policy(name="tiers, all alike", time={"mode": "synchronous", "selection": {"kind": "tiers", "bias": 0.0}}),
    Policy(name="tiers, quick ones more", time={"mode": "synchronous", "selection": {"kind": "tiers", "bias": 1.0}}),
    Policy(name="Oort", time={"mode": "synchronous", "selection": {"kind": "oort"}}),
    Policy(name="FedBuff 1.3", time={"mode": "fedbuff"}),
    Policy(name="partial work", time={"mode": "partial"}),
)


def write_trace(phones: Path, folder: Path) -> Path:
    """Write the phones as a trace of devices."""
    trace = folder / "phones.csv"
    with phones.open(encoding="utf-8") as file, trace.open("w", encoding="utf-8") as out:
        out.write("device,seconds_per_example\n")
        for line in csv.DictReader(file):
            out.write(f"phone-{line['id']},{float(line['ms_per_sample']) / 1000}\n")
    return trace


def timed(policy: Policy, trace: Path, cohort: int) -> dict[str, Any]:
    """Return [simulation.time] for a cohort."""
    at_work = {"concurrency": round(1.3 * cohort), "buffer": cohort} if policy.time["mode"] == "fedbuff" else {}
    return {**policy.time, **at_work, "devices": {"trace": str(trace), **LINKS}}
