"""Where a cohort is computed, as people write it: `inline`, `processes` (one a core), `processes:4` or `ray`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archipel.data.bundle import pack_bundle
from archipel.simulation.spread.messages import Opening
from archipel.simulation.spread.processes import Processes
from archipel.spec import SpecError
from archipel.tasks.port import Executor, Vector


@dataclass(frozen=True)
class Inline:
    """This process alone."""


@dataclass(frozen=True)
class OverProcesses:
    """Processes of this machine."""

    count: int


@dataclass(frozen=True)
class OverRay:
    """The CPUs of a Ray cluster."""

    address: str | None
    """Such as "ray://head.example:10001"; None: the one this machine is part of, or one started for the run."""


Spread = Inline | OverProcesses | OverRay


def read_spread(text: str) -> Spread:
    """Read what a person wrote.

    Raises:
        SpecError: it is none of these.
    """
    if text == "inline":
        return Inline()
    if text == "ray" or re.fullmatch(r"ray://[^/\s:]+:\d+", text):
        return OverRay(None if text == "ray" else text)
    found = re.fullmatch(r"processes(?::([1-9]\d{0,2}))?", text)
    if found is None:
        hint = "write inline, processes (one a core), processes:N with N from 1 to 999, ray or ray://HOST:PORT"
        raise SpecError(f"a simulation cannot be spread over {text!r}", hint=hint)
    return OverProcesses(int(found[1]) if found[1] else cores())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spread_over(
    spread: Spread, executor: Executor, opening: Opening, *, like: Vector, cohort: int, place: Path
) -> Iterator[tuple[Executor, int]]:
    """Give an executor that computes by `executor` where `spread` says, and how many processes it is.

    Raises:
        MissingExtraError: Ray is not installed.
        StateError: no Ray cluster answers.
    """
    match spread:
        case Inline():
            yield executor, 1
        case OverProcesses(count):
            with Processes(opening, count=count, like=like, cohort=cohort, place=place) as processes:
                yield processes, count
        case OverRay(address):
            from archipel.simulation.spread.cluster import Cluster, connected  # noqa: PLC0415 - Ray is an extra

            bundle = pack_bundle(Path(opening.folder), opening.job.task.include)
            with connected(address), Cluster(opening, bundle, like=like, cohort=cohort) as cluster:
                yield cluster, cluster.count
