"""How many neighbours, shares and sites a session needs, and the site's own word on whether that is enough.

Up to 64 sites everybody is everybody's neighbour, and the threshold is two thirds of the sites and one more: two
survivor sets with that many signatures each have an honest signer in common while fewer than a third of the sites are
corrupt (Bonawitz et al., Practical secure aggregation, CCS 2017, active adversary).

Above 64, sites stand on a ring in random order and each has k neighbours, k/2 on either side (a Harary graph; Bell et
al., Secure single-server aggregation with (poly)logarithmic overhead, CCS 2020). `ring_shape` finds the smallest k, and
for it the smallest threshold t, such that with corrupt and dropped sites up to the assumed shares

    P[the ring of honest survivors falls apart]                 < 2^-41
    P[a site has t corrupt neighbours]                          < 2^-41 / n     curious server
    P[t corrupt and t other holders can be asked apart]         < 2^-41 / n     semi-malicious: 2t - k of them corrupt
    P[a site has fewer than t surviving neighbours]             < 2^-20 / n

The rows that google/federated-compute publishes for its own finder are reproduced by a test.

Example:
    >>> shape_for(100, Assumptions(corrupt=0.05, dropout=0.10))
    Shape(neighbours=26, threshold=16, quorum=90)
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from archipel.security.secagg.abort import Reason, abort
from archipel.spec import SpecError, Value

COMPLETE_UP_TO = 64
"""Up to so many sites the graph is complete."""
MOST_SITES = 1_000_000
SECURITY_BITS, CORRECTNESS_BITS = 40, 20
_LOG_BREACH = -(SECURITY_BITS + 1) * math.log(2)
_LOG_FAILURE = -CORRECTNESS_BITS * math.log(2)
_MOST_BAD = 0.9
_ROUNDING = 1e-14
"""Added before floor and ceil, so that 0.3 * 10 is three sites."""

Share = Annotated[float, Meta(ge=0, lt=1)]
Chances = npt.NDArray[np.float64]


class Assumptions(Value, frozen=True, kw_only=True):
    """What is assumed of the sites of a session."""

    corrupt: Share = 0.10
    """Largest share of sites that may work together with control."""
    dropout: Share = 0.10
    """Largest share of sites that may drop out on the way. Up to 64 sites a third may, whatever is said here."""
    adversary: Literal["curious", "semi-malicious"] = "semi-malicious"
    """curious: control follows the protocol and reads everything. semi-malicious: it lies after the keys are out."""


class Shape(Value, frozen=True, kw_only=True):
    """What follows from the assumptions for a number of sites."""

    neighbours: int
    """Sites with which a site shares masks."""
    threshold: int
    """Shares that reveal a secret. Up to 64 sites each site is among the holders of its own shares, above not."""
    quorum: int
    """Sites that must be left at every stage."""


class Policy(Value, frozen=True, kw_only=True):
    """A site's own conditions; what control proposes is refused where it is weaker."""

    min_sites: Annotated[int, Meta(ge=3)] = 3
    """Fewest sites in a sum. Never below 3: with two, each reads the other's update off the sum."""
    corrupt: Share = 0.05
    adversary: Literal["curious", "semi-malicious"] = "semi-malicious"


def shape_for(sites: int, assumptions: Assumptions) -> Shape:
    """Return the shape of a session of `sites`.

    Raises:
        SpecError: fewer than 3 sites, more than a million, or too many corrupt and dropped to be safe.
    """
    if sites < 3:
        raise SpecError(f"secure aggregation of {sites} sites", hint="it takes at least 3 sites to hide one")
    if sites <= COMPLETE_UP_TO:
        threshold = complete_threshold(sites)
        return Shape(neighbours=sites - 1, threshold=threshold, quorum=threshold)
    return ring_shape(sites, assumptions)


def quorum_of(sites: int, assumptions: Assumptions) -> int:
    """Return how many of `sites` must be left at every stage, as `shape_for` says, without looking for a ring."""
    if sites <= COMPLETE_UP_TO:
        return complete_threshold(sites)
    return sites - _floor(assumptions.dropout * sites)


def complete_threshold(sites: int) -> int:
    """Return two thirds of the sites, rounded down, and one more."""
    return 2 * sites // 3 + 1


def ring_shape(sites: int, assumptions: Assumptions) -> Shape:
    """Return the smallest ring that keeps the promises of the module; see `shape_for`."""
    _require_feasible(sites, assumptions)
    corrupt, dropped = _floor(assumptions.corrupt * sites), _floor(assumptions.dropout * sites)
    logs = _log_factorials(sites)
    for neighbours in range(2, sites - 1, 2):
        if _log_disconnected(logs, sites, neighbours, corrupt + dropped) >= _LOG_BREACH:
            continue
        threshold = _least_threshold(logs, sites, neighbours, corrupt, assumptions.adversary)
        survivors = _chances(logs, sites, sites - dropped, neighbours)
        if threshold <= neighbours and float(survivors[:threshold].sum()) < math.exp(_LOG_FAILURE) / sites:
            # At 2 and no less, or a share is the secret; raised here, after the check, as in the published rows.
            return Shape(neighbours=neighbours, threshold=max(threshold, 2), quorum=sites - dropped)
    raise _infeasible(sites, assumptions)


def require_strict(sites: int, shape: Shape, policy: Policy) -> None:
    """Hold a proposed shape for `sites` against a site's policy.

    Raises:
        SecureAggregationError: weak-terms or small-cohort, with what is too low.
    """
    if min(sites, shape.quorum) < policy.min_sites:
        detail = f"{sites} sites with a quorum of {shape.quorum}, and the policy asks for {policy.min_sites}"
        raise abort(Reason.SMALL_COHORT, detail, hint="let more sites join")
    least = _least_shape(sites, shape, policy)
    if shape.threshold < least.threshold or shape.quorum < least.quorum or not _fits(sites, shape):
        detail = (
            f"threshold {shape.threshold}, {shape.neighbours} neighbours and quorum {shape.quorum} for {sites} sites; "
            f"the policy asks for threshold {least.threshold} and quorum {least.quorum}"
        )
        raise abort(Reason.WEAK_TERMS, detail, hint="use the shape that shape_for() finds for the policy's assumptions")


def _fits(sites: int, shape: Shape) -> bool:
    """Is it a graph at all, and of the kind that belongs to so many sites?"""
    if sites <= COMPLETE_UP_TO:
        return shape.neighbours == sites - 1 and shape.quorum <= sites and shape.threshold <= sites
    even = shape.neighbours % 2 == 0
    return even and shape.threshold <= shape.neighbours < sites and shape.quorum <= sites


def _least_shape(sites: int, shape: Shape, policy: Policy) -> Shape:
    """Return the least threshold and quorum that keep the promises with the proposed neighbours."""
    if sites <= COMPLETE_UP_TO:
        least = complete_threshold(sites)
        return Shape(neighbours=sites - 1, threshold=least, quorum=least)
    if not 0 < shape.neighbours < sites:
        return Shape(neighbours=shape.neighbours, threshold=sites, quorum=sites)
    corrupt, logs = _floor(policy.corrupt * sites), _log_factorials(sites)
    threshold = _least_threshold(logs, sites, shape.neighbours, corrupt, policy.adversary)
    whole = (
        quorum
        for quorum in range(max(shape.quorum, corrupt), sites + 1)
        if _log_disconnected(logs, sites, shape.neighbours, corrupt + sites - quorum) < _LOG_BREACH
    )
    return Shape(neighbours=shape.neighbours, threshold=max(threshold, 2), quorum=next(whole, sites + 1))


def _least_threshold(logs: Chances, sites: int, neighbours: int, corrupt: int, adversary: str) -> int:
    """Return the smallest threshold out of reach of the server and the corrupt neighbours of a site."""
    chances = _chances(logs, sites, corrupt, neighbours)
    at_least = np.cumsum(chances[::-1])[::-1]  # P[corrupt neighbours >= index]
    likely = int(np.flatnonzero(at_least >= math.exp(_LOG_BREACH) / sites)[-1])
    # Asked for both secrets of a site, honest holders give one share each and corrupt ones both: 2 t <= k + corrupt.
    return likely + 1 if adversary == "curious" else (likely + neighbours) // 2 + 1


def _log_disconnected(logs: Chances, sites: int, neighbours: int, bad: int) -> float:
    """Bound the log of the chance that the bad sites cut the ring: two runs of k/2 of them, in any two places."""
    if neighbours > bad:
        return -math.inf
    places = math.log(sites) + math.log(max(sites - neighbours - 1, 1)) - math.log(2)
    return float(places + logs[bad] + logs[sites - neighbours] - logs[sites] - logs[bad - neighbours])


def _chances(logs: Chances, population: int, marked: int, sample: int) -> Chances:
    """Return the hypergeometric chances of 0 … `sample` marked ones in a sample."""
    chances = np.zeros(sample + 1)
    found = np.arange(max(0, sample - population + marked), min(sample, marked) + 1)
    chances[found] = np.exp(
        _log_choices(logs, marked, found)
        + _log_choices(logs, population - marked, sample - found)
        - _log_choices(logs, population, np.array(sample))
    )
    return chances


def _log_choices(logs: Chances, things: int, chosen: npt.NDArray[np.int_]) -> Chances:
    result: Chances = logs[things] - logs[chosen] - logs[things - chosen]
    return result


def _log_factorials(largest: int) -> Chances:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])


def _floor(value: float) -> int:
    return math.floor(value + _ROUNDING * max(1.0, value))


def _require_feasible(sites: int, assumptions: Assumptions) -> None:
    rounds = 2 if assumptions.adversary == "semi-malicious" else 1
    if not 0 < sites <= MOST_SITES or assumptions.corrupt + rounds * assumptions.dropout > _MOST_BAD:
        raise _infeasible(sites, assumptions)


def _infeasible(sites: int, assumptions: Assumptions) -> SpecError:
    message = (
        f"no ring of {sites} sites is safe against a {assumptions.adversary} server with {assumptions.corrupt:.0%} of "
        f"the sites corrupt and {assumptions.dropout:.0%} dropping out"
    )
    return SpecError(message, hint="assume fewer corrupt sites or drop-outs")
