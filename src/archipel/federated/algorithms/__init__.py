"""Algorithms, one a file: init (options, zero state) and apply. They know nothing of each other."""

from __future__ import annotations

import importlib

from archipel.federated.algorithms.fedadam import FedAdam
from archipel.federated.algorithms.fedavg import FedAvg
from archipel.federated.algorithms.fedavgm import FedAvgM
from archipel.federated.algorithms.fedprox import FedProx
from archipel.federated.algorithms.fedyogi import FedYogi
from archipel.federated.algorithms.scaffold import Scaffold
from archipel.federated.port import Algorithm
from archipel.spec import SpecError, UnknownNameError
from archipel.spec.job import FederationSpec

__all__ = [
    "BUILT_IN",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedProx",
    "FedYogi",
    "Scaffold",
    "algorithm_of",
    "options_of",
]

BUILT_IN = {kind.name: kind for kind in (FedAvg, FedProx, Scaffold, FedAvgM, FedAdam, FedYogi)}
"""Name in a job file → class."""


def algorithm_of(federation: FederationSpec) -> Algorithm:
    """Return the algorithm of a job, with its options checked.

    Raises:
        UnknownNameError: an algorithm or option nobody knows.
        SpecError: an option out of range, or local training the algorithm cannot work with.
    """
    if federation.algorithm not in BUILT_IN:
        raise UnknownNameError.of("algorithm", federation.algorithm, BUILT_IN)
    local = federation.local
    if federation.algorithm == "scaffold" and (local.optimizer != "sgd" or local.momentum > 0):
        # Its control variate is the mean gradient (x - y) / (K eta), which only plain SGD leaves in the delta.
        raise SpecError(
            f"scaffold needs plain local SGD, found {local.optimizer} with momentum {local.momentum}",
            hint='set [federation.local] optimizer = "sgd" and momentum = 0, or take another algorithm',
        )
    algorithm: Algorithm = BUILT_IN[federation.algorithm](federation.options)
    return algorithm


def options_of(algorithm: str) -> tuple[str, ...]:
    """Return the names of an algorithm's options; () where it has none."""
    names: tuple[str, ...] = importlib.import_module(BUILT_IN[algorithm].__module__).Options.__struct_fields__
    return names
