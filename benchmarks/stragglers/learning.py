"""W1's logistic regression over uneven phones, its images under more noise: simulated time to an accuracy.

Its 1,000 clients of log-normal size have the phones' compute times, and links so slow that the model takes as long as
one of 20 MB. Every policy has the simulated time that waiting for all takes for its rounds, or four times the rounds.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from archipel.simulation.clock.opening import open_devices
from archipel.simulation.clock.report import RoundTime, TimeReport
from archipel.simulation.virtual import VirtualRun
from archipel.spec.job import SimulationSpec
from archipel.spec.timing import TimeSpec
from archipel.tasks.executors import open_executor
from simulation.contenders import Workload
from simulation.examples import write_examples
from stragglers.fleets import LINKS, POLICIES, Policy, timed
from stragglers.rounds import MODEL_BYTES

ROUNDS, MORE, NOISE = 60, 4, 3.7
NEAR = 0.005
"""Reached is what is so near to the accuracy that waiting for all ends with."""

Course = list[tuple[float, float]]
"""(simulated seconds, accuracy) after each round."""


def measure(trace: Path, scratch: Path) -> list[dict[str, object]]:
    """Train by every policy."""
    write_examples("lr", scratch / "examples")
    _blur(scratch / "examples")
    print(f"\nlogistic regression, 50 of 1,000 clients a round, waiting for all for {ROUNDS} rounds")
    heads = f"{'to its accuracy':>18}{'times faster':>14}{'at the end':>12}{'wasted':>9}{'slowest':>9}"
    print(f"{'policy':26}{'rounds':>8}{heads}")
    rows: list[dict[str, object]] = []
    first: Course = []
    for policy in POLICIES:
        course, told = _train(policy, trace, scratch, first[-1][0] if first else None)
        first = first or course
        wanted = first[-1][1] - NEAR
        taken = next((at for at, accuracy in course if accuracy >= wanted), None)
        usual = next(at for at, accuracy in first if accuracy >= wanted)
        faster = None if taken is None else usual / taken
        shown = "never" if taken is None else f"{taken:.0f} s"
        print(
            f"{policy.name:26}{len(course):8}{shown:>18}{faster or 0:14.2f}{course[-1][1]:12.4f}"
            f"{told.wasted_share:9.1%}{told.slow_share or 0:9.3f}"
        )
        rows.append(
            {
                "name": f"learning: {policy.name}",
                "rounds": len(course),
                "seconds_to_accuracy": taken,
                "times_faster": faster,
                "accuracy": course[-1][1],
                "wasted_share": told.wasted_share,
                "slowest_tenth_share": told.slow_share,
            }
        )
    return rows


def _blur(folder: Path) -> None:
    """Add noise to the images, which else are all told apart after some rounds; their size stays about 1."""
    rng = np.random.default_rng(0)
    for name in ("x.npy", "test_x.npy"):
        images = np.load(folder / name)
        noisy = images + rng.normal(scale=NOISE, size=images.shape)
        np.save(folder / name, (noisy / NOISE).astype(np.float32))


def _train(policy: Policy, trace: Path, scratch: Path, seconds: float | None) -> tuple[Course, TimeReport]:
    workload = Workload("lr", scratch / "examples", scratch / policy.name, ROUNDS if seconds is None else MORE * ROUNDS)
    spec, adapter = workload.job.simulation, workload.adapter
    assert isinstance(spec, SimulationSpec)
    slowness = adapter.initial(0).vector.nbytes / MODEL_BYTES
    document = timed(policy, trace, workload.cohort)
    document["devices"] |= {name: value * slowness for name, value in LINKS.items() if name != "mbps_sigma"}
    job = msgspec.structs.replace(
        workload.job, simulation=msgspec.structs.replace(spec, time=msgspec.convert(document, TimeSpec))
    )
    devices = open_devices(job, workload.population, trace.parent)
    run = VirtualRun(job, adapter, workload.population, scratch / policy.name / "controls", devices=devices)
    course: Course = []
    records = []
    for record in run.rounds(open_executor("loop", adapter)):
        assert isinstance(record.simulated, RoundTime)
        records.append(record.simulated)
        course.append((record.simulated.at_seconds, run.figures("test")["accuracy"]))
        if seconds is not None and record.simulated.at_seconds >= seconds:
            break
    return course, TimeReport.of(records)
