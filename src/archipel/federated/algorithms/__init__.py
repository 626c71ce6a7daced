"""Algorithms, one a file: init (options, zero state) and apply. They know nothing of each other."""

from __future__ import annotations

from archipel.federated.algorithms.fedavg import FedAvg
from archipel.federated.port import Algorithm
from archipel.spec import UnknownNameError
from archipel.spec.job import FederationSpec

__all__ = ["BUILT_IN", "FedAvg", "algorithm_of"]

BUILT_IN = {kind.name: kind for kind in (FedAvg,)}
"""Name in a job file → class."""


def algorithm_of(federation: FederationSpec) -> Algorithm:
    """Return the algorithm of a job, with its options checked.

    Raises:
        UnknownNameError: an algorithm or option nobody knows.
        SpecError: an option out of range, or local training the algorithm cannot work with.
    """
    if federation.algorithm not in BUILT_IN:
        raise UnknownNameError.of("algorithm", federation.algorithm, BUILT_IN)
    return BUILT_IN[federation.algorithm](federation.options)
