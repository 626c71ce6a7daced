"""FedAvg: the next model is the model plus the weighted mean of the updates.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv:1602.05629,
section 2, Algorithm 1: w_{t+1} = sum_k (n_k / n) w^k_{t+1}, here as w_{t+1} = w_t + sum_k (n_k / n) delta_k with
delta_k = w^k_{t+1} - w_t and n the examples of the cohort.
"""

from __future__ import annotations

from collections.abc import Mapping

from archipel.federated.options import read_options
from archipel.federated.port import Block, RoundFacts
from archipel.spec import Value


class Options(Value, frozen=True, kw_only=True):
    """FedAvg has none."""


class FedAvg:
    """Weighted averaging."""

    name: str = "fedavg"
    weighted: tuple[str, ...] = ("delta",)
    uniform: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()

    def __init__(self, options: Mapping[str, float]) -> None:
        read_options(self.name, options, Options)

    def variant(self) -> dict[str, float]:
        """Plain local training: no numbers."""
        return {}

    def apply(
        self,
        facts: RoundFacts,  # noqa: ARG002 - the port's signature
        model: Block,
        means: Mapping[str, Block],
        state: Mapping[str, Block],  # noqa: ARG002
    ) -> tuple[Block, dict[str, Block]]:
        """Return model + mean delta."""
        return model + means["delta"], {}
