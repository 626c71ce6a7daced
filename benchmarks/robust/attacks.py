"""Attacks, one a function: what the liars send, who know every honest update of the round and act as one.

    lies = ATTACKS["sign flip x4"](honest, own, chance)       # (honest sites, d), (liars, d) → (liars, d)

`own` is what the liars would send if they were honest. Label flip is not here: its liars train by the rules on rows
whose labels they have turned over.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Updates = npt.NDArray[np.floating[Any]]
Attack = Callable[[Updates, Updates, np.random.Generator], Updates]
LABEL_FLIP = "label flip"


def sign_flip(times: float) -> Attack:
    """Send the opposite of the honest mean, so many times as long."""
    return lambda honest, own, chance: _alike(-times * honest.mean(axis=0), own)  # noqa: ARG005


def scaled(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """Send ten times one's own update."""
    return 10 * own


def gaussian(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:
    """Send noise of twenty times the honest spread around the honest mean."""
    spread = 20 * honest.std(axis=0)
    return (honest.mean(axis=0) + spread * chance.standard_normal(own.shape)).astype(own.dtype)


def inner_product(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """Inner Product Manipulation (Xie et al., arXiv:1903.03936): -0.6 times the honest mean, small and opposite."""
    return _alike(-0.6 * honest.mean(axis=0), own)


def a_little(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """A Little Is Enough (Baruch et al., arXiv:1902.06156, Algorithm 3): mean - z s, with the largest z that hides."""
    sites, liars = len(honest) + len(own), len(own)
    supporters = sites // 2 + 1 - liars
    z = statistics.NormalDist().inv_cdf((sites - liars - supporters) / (sites - liars))
    return _alike(honest.mean(axis=0) - z * honest.std(axis=0), own)


def a_lot(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """A Little Is Enough with z = 1.5: less hidden, and for some rules worse."""
    return _alike(honest.mean(axis=0) - 1.5 * honest.std(axis=0), own)


def mimic(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """Repeat one honest site, so that the others count for less (Karimireddy et al., arXiv:2006.09365, section 3.2)."""
    return _alike(honest[0], own)


def not_a_number(honest: Updates, own: Updates, chance: np.random.Generator) -> Updates:  # noqa: ARG001
    """Send NaN."""
    return np.full_like(own, np.nan)


ATTACKS: dict[str, Attack | None] = {
    "none": None,
    "sign flip x4": sign_flip(4),
    "scaled x10": scaled,
    "Gaussian": gaussian,
    "IPM 0.6": inner_product,
    "ALIE": a_little,
    "ALIE z=1.5": a_lot,
    LABEL_FLIP: None,
    "mimic": mimic,
    "NaN": not_a_number,
}
LENGTHS: dict[str, Attack | None] = {f"sign flip x{times}": sign_flip(times) for times in (1, 2, 4, 10)}
"""One lie, long and short: which length is the worst depends on the rule."""


def _alike(lie: Updates, own: Updates) -> Updates:
    return np.repeat(lie[None].astype(own.dtype), len(own), axis=0)
