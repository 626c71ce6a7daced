"""Instances of R||Cmax by a fixed recipe, so that a figure can be made again.

    instance = draw_instance(machines=50, jobs=500, eligible=0.4, seed=0)

A job's work is log-normal (sigma 0.8), a machine's speed uniform between 0.5 and 4, each pair deviates by a log-normal
factor (sigma 0.3), and a machine may take a job with probability `eligible`; a job nobody may take gets one machine.
Times are rounded to whole milliseconds.
"""

from __future__ import annotations

import numpy as np

from archipel.planner.assignment import Instance


def draw_instance(*, machines: int, jobs: int, eligible: float, seed: int) -> Instance:
    """Draw one instance."""
    chance = np.random.default_rng(seed)
    work = chance.lognormal(mean=4.0, sigma=0.8, size=jobs)
    speed = chance.uniform(0.5, 4.0, size=machines)
    seconds = work[:, None] / speed[None, :] * chance.lognormal(sigma=0.3, size=(jobs, machines))
    seconds = np.maximum(np.round(seconds, 3), 0.001)
    allowed = chance.random((jobs, machines)) < eligible
    allowed[np.arange(jobs), chance.integers(machines, size=jobs)] = True
    return Instance(seconds=np.where(allowed, seconds, np.inf))
