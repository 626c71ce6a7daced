"""From events to (epsilon, delta), by the accountants of Google's dp-accounting (`archipel[privacy]`).

    epsilon_of(event, delta=1e-5)                            # pld
    epsilon_of(event, delta=1e-5, accountant="moments")      # as in Abadi et al. 2016

    pld       privacy loss distributions (Doroshenko et al. 2022, arXiv:2207.04380); what we print and hold budgets to
    rdp       Rényi divergences (Mironov et al. 2019, arXiv:1908.10530), converted by Canonne et al. 2020, prop. 12
    moments   those of whole orders, converted by epsilon = rdp(a) + log(1/delta) / (a - 1) (arXiv:1702.07476, prop. 3)

All are upper bounds; the later ones are looser and reproduce published figures. Sampling amplifies only what
`PoissonSampled` says was drawn so. Where pld is asked and knows no bound (`DiscreteGaussian`), rdp answers.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from archipel.security.privacy.correlated import sensitivity
from archipel.security.privacy.events import (
    Composed,
    Correlated,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampled,
    Repeated,
    TreeAggregation,
)
from archipel.security.privacy.tree import squared_sensitivity
from archipel.spec import MissingExtraError
from archipel.spec.privacy import Accountant

MOMENTS = tuple(range(2, 257))
"""Orders of the moments accountant."""
LARGE = 50.0
"""Where rdp says more than this, pld is not asked: it would take minutes to say that nothing is protected."""


def require_accounting() -> None:
    """Say by name that the accountants are missing.

    Raises:
        MissingExtraError: they are not installed.
    """
    if importlib.util.find_spec("dp_accounting") is None:
        hint = "pip install -e '.[privacy]' in the checkout"
        raise MissingExtraError("differential privacy needs dp-accounting, which is not installed", hint=hint)


def accountant_for(event: Event, wanted: Accountant) -> Accountant:
    """Return who accounts for an event where `wanted` is asked."""
    parts = event.events if isinstance(event, Composed) else (event,)
    shared = any(isinstance(part.event if isinstance(part, Repeated) else part, DiscreteGaussian) for part in parts)
    return "rdp" if shared and wanted == "pld" else wanted


def epsilon_of(event: Event, *, delta: float, accountant: Accountant = "pld") -> float:
    """Return the smallest epsilon for which `event` is (epsilon, delta)-private, as far as the accountant knows.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    if event == Composed():
        return 0.0
    accountant = accountant_for(event, accountant)
    if accountant == "pld" and (loose := epsilon_of(event, delta=delta, accountant="rdp")) > LARGE:
        return loose
    told = _composed(event, accountant)
    if accountant != "moments":
        return float(told.get_epsilon(delta))
    return float(min(told.rdp + math.log(1 / delta) / (told.orders - 1)))


def delta_of(event: Event, *, epsilon: float) -> float:
    """Return the smallest delta for which `event` is (epsilon, delta)-private, by pld where it can be.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    return float(_composed(event, accountant_for(event, "pld")).get_delta(epsilon))


def _composed(event: Event, accountant: Accountant) -> Any:
    require_accounting()
    # A second to import: only who accounts for something pays it.
    from dp_accounting import pld, rdp  # noqa: PLC0415

    match accountant:
        case "pld":
            told = pld.PLDAccountant()
        case "rdp":
            told = rdp.RdpAccountant()
        case "moments":
            told = rdp.RdpAccountant(list(MOMENTS))
    told.compose(_theirs(event))
    return told


def _theirs(event: Event) -> Any:
    """Say an event in the library's words."""
    import dp_accounting  # noqa: PLC0415

    match event:
        case Gaussian(noise_multiplier=noise) | DiscreteGaussian(noise_multiplier=noise):
            return dp_accounting.GaussianDpEvent(noise)
        case PoissonSampled(rate=rate, event=inner):
            return dp_accounting.PoissonSampledDpEvent(rate, _theirs(inner))
        case TreeAggregation(noise_multiplier=noise, steps=steps, participations=times, separation=gap):
            squared = squared_sensitivity(steps=steps, participations=times, separation=gap)
            return dp_accounting.GaussianDpEvent(noise / math.sqrt(squared))
        case Correlated(noise_multiplier=noise, bands=bands, steps=steps, participations=times, separation=gap):
            moved = sensitivity(bands=bands, steps=steps, participations=times, separation=gap)
            return dp_accounting.GaussianDpEvent(noise / moved)
        case Repeated(event=inner, times=times):
            return dp_accounting.SelfComposedDpEvent(_theirs(inner), times)
        case Composed(events=events):
            return dp_accounting.ComposedDpEvent([_theirs(one) for one in events])
