"""From a job to what it will do with its data, and what that promises.

    plan = releases_of(job)                       # of a live run; releases_of(job, clients=3400) of a simulation
    plan.event(rounds=12)                         # what twelve rounds will have done
    promised(job, clients=3400)                   # Guarantee: epsilon with all that it means

The same values are read by the plan, the report and the site's ledger. Amplification is claimed for Poisson sampling
alone: a cohort of fixed size, or one that anybody can draw again from the job's seed, counts as if every unit took part
in every round; where clients take turns, each counts as often as its turn comes.
"""

from __future__ import annotations

import math

import msgspec

from archipel.security.privacy.accounting import accountant_for, epsilon_of
from archipel.security.privacy.correlated import best_bands
from archipel.security.privacy.events import (
    Correlated,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampled,
    Repeated,
)
from archipel.spec import JobSpec
from archipel.spec.privacy import Accountant, CentralPrivacy, Delta, Guarantee, Unit

EVERY_ROUND = "none: every {} may be in every round"
POISSON = "Poisson, rate {:.3g}"
TURNS = "in turn, every {} rounds at the most"
BANDS = ", noise correlated over {} rounds"
SEEDED = "the noise follows from a seed in the job"


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """Clients train in an order that stays, `cohort` of them a round."""

    cohort: int
    clients: int

    @property
    def separation(self) -> int:
        """So many rounds lie between two of a client's, at the least."""
        return self.clients // self.cohort

    def participations(self, rounds: int) -> int:
        """Return how often a client's turn comes in so many rounds, at the most."""
        return math.ceil(rounds * self.cohort / self.clients)


class Releases(msgspec.Struct, frozen=True, kw_only=True):
    """What one training round of a job publishes about a unit."""

    unit: Unit
    delta: Delta
    once: Gaussian | DiscreteGaussian | PoissonSampled
    each_round: int
    """Noisy sums in a round."""
    sampling: str
    trusted: str
    turns: Turns | None = None
    """None: a unit may be in every round."""
    bands: int = 1
    """So many rounds' fresh noise is in a round's; 1: its own alone."""
    seeded: bool = False
    """Can anybody take the noise off again?"""

    def event(self, rounds: int) -> Event:
        """Return what so many rounds (from 1) do."""
        if self.turns is None:
            return Repeated(event=self.once, times=rounds * self.each_round)
        participations = self.turns.participations(rounds)
        if self.bands == 1:
            return Repeated(event=self.once, times=participations)
        assert isinstance(self.once, Gaussian), "clients that take turns are not sampled"
        return Correlated(
            noise_multiplier=self.once.noise_multiplier,
            bands=self.bands,
            steps=rounds,
            participations=participations,
            separation=self.turns.separation,
        )

    def guarantee(self, rounds: int, accountant: Accountant = "pld") -> Guarantee:
        """Return what so many rounds promise.

        Raises:
            MissingExtraError: dp-accounting is not installed.
        """
        accountant = accountant_for(self.once, accountant)
        epsilon = None
        if not self.seeded:
            epsilon = epsilon_of(self.event(rounds), delta=self.delta, accountant=accountant) if rounds else 0.0
        return msgspec.convert(
            {
                "type": "guarantee/1",
                "epsilon": epsilon,
                "delta": self.delta,
                "unit": self.unit,
                "sampling": self.sampling,
                "trusted": self.trusted,
                "accountant": accountant,
                "releases": rounds * self.each_round,
                "reason": SEEDED if self.seeded else "",
            },
            Guarantee,
        )


def releases_of(job: JobSpec, *, clients: int | None = None) -> Releases | None:
    """Return what a training round of `job` publishes; None: updates without noise.

    `clients` is the size of the population a simulation draws from; None: the run is live, and its units are sites.
    """
    central, examples = job.privacy.central, job.privacy.examples
    if central is not None:
        noisy = Gaussian(noise_multiplier=central.noise_multiplier)
        unit: Unit = "site" if clients is None else "client"
        once, sampling = _sampled(job, noisy, unit, clients)
        turns = _turns(job, clients)
        bands = _bands(central, turns, job.federation.rounds)
        return Releases(
            unit=unit,
            delta=central.delta,
            once=once,
            each_round=1,
            sampling=sampling if bands == 1 else sampling + BANDS.format(bands),
            trusted="coordinator",
            turns=turns,
            bands=bands,
            seeded=central.seed is not None,
        )
    for site, kind in ((job.privacy.local, Gaussian), (job.privacy.distributed, DiscreteGaussian)):
        if site is not None:
            return Releases(
                unit="site",
                delta=site.delta,
                once=kind(noise_multiplier=site.noise_multiplier),
                each_round=1,
                sampling=EVERY_ROUND.format("site"),
                trusted="nobody",
            )
    if examples is not None:
        noisy = Gaussian(noise_multiplier=examples.noise_multiplier)
        rate = examples.sampling_rate
        return Releases(
            unit="example",
            delta=examples.delta,
            once=PoissonSampled(rate=rate, event=noisy) if rate < 1 else noisy,
            each_round=private_steps(rate, job.federation.local.epochs),
            sampling=POISSON.format(rate) + " of rows a step" if rate < 1 else EVERY_ROUND.format("row"),
            trusted="nobody",
        )
    return None


def promised(job: JobSpec, *, clients: int | None = None) -> Guarantee | None:
    """Return what the whole job will promise; None: it asks for no differential privacy.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    releases = releases_of(job, clients=clients)
    return None if releases is None else releases.guarantee(job.federation.rounds)


def private_steps(rate: float, epochs: int) -> int:
    """Return the steps of DP-SGD in a round: each row is in `epochs` of them on average."""
    return max(1, math.ceil(epochs / rate - 1e-9))


def _bands(central: CentralPrivacy, turns: Turns | None, rounds: int) -> int:
    if turns is None or central.noise == "independent":
        return 1
    participations = turns.participations(rounds)
    return best_bands(steps=rounds, participations=participations, separation=turns.separation)


def _turns(job: JobSpec, clients: int | None) -> Turns | None:
    spec = job.simulation
    if clients is None or spec is None or spec.sampling != "turns" or spec.cohort >= clients:
        return None
    return Turns(cohort=spec.cohort, clients=clients)


def _sampled(job: JobSpec, noisy: Gaussian, unit: Unit, clients: int | None) -> tuple[Gaussian | PoissonSampled, str]:
    turns, spec = _turns(job, clients), job.simulation
    if turns is not None:
        return noisy, TURNS.format(turns.separation)
    if clients is None or spec is None or spec.sampling != "poisson" or spec.cohort >= clients:
        return noisy, EVERY_ROUND.format(unit)
    rate = spec.cohort / clients
    return PoissonSampled(rate=rate, event=noisy), POISSON.format(rate) + " of clients a round"
