"""The account of epsilon: CPU seconds in a process that has just been started, and in one that has the library."""

from __future__ import annotations

import subprocess
import sys

from archipel.security.privacy import Event, Gaussian, PoissonSampled, Repeated, epsilon_of
from trust.figure import Figure, childrens_cpu_seconds, cpu_seconds

LIMIT = 5.0
EVENTS: dict[str, Event] = {
    "60 Gaussians of noise 4": Repeated(event=Gaussian(noise_multiplier=4.0), times=60),
    "1,500 rounds, 100 of 3,400 by Poisson sampling, noise 1": Repeated(
        event=PoissonSampled(event=Gaussian(noise_multiplier=1.0), rate=100 / 3400), times=1500
    ),
}
_COLD = (
    "from archipel.security.privacy import Gaussian, epsilon_of; epsilon_of(Gaussian(noise_multiplier=1.0), delta=1e-5)"
)


def epsilons() -> list[Figure]:
    """Account for a short run and a long one, and for one release in a new process."""
    before = childrens_cpu_seconds()
    subprocess.run([sys.executable, "-c", _COLD], check=True)
    cold = childrens_cpu_seconds() - before
    epsilon_of(Gaussian(noise_multiplier=1.0), delta=1e-5)
    warm = [
        Figure(f"epsilon of {name}", cpu_seconds(lambda event=event: epsilon_of(event, delta=1e-5)), "CPU-s", LIMIT)
        for name, event in EVENTS.items()
    ]
    return [Figure("epsilon of one Gaussian, in a new process", cold, "CPU-s"), *warm]
