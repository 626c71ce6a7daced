"""FedProx: FedAvg on the server; at the sites, the loss gains a term that holds local models near the global one.

Li et al., "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127, section 3.2, equation (2):
h_k(w; w^t) = F_k(w) + (mu / 2) ||w - w^t||^2, and Algorithm 2. The paper averages the local models; as in its
published code, we weigh them by their examples (or equally, with [federation] weighting = "uniform"). mu = 0 is FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from archipel.federated.options import read_options
from archipel.federated.port import Block, RoundFacts
from archipel.spec import Value


class Options(Value, frozen=True, kw_only=True):
    """[federation] options of fedprox."""

    mu: Annotated[float, Meta(ge=0)] = 0.01
    """Weight of the proximal term; the paper tries 0.001, 0.01, 0.1 and 1."""


class FedProx:
    """Weighted averaging of proximal local training."""

    name: str = "fedprox"
    weighted: tuple[str, ...] = ("delta",)
    uniform: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()

    def __init__(self, options: Mapping[str, float]) -> None:
        self._options = read_options(self.name, options, Options)

    def variant(self) -> dict[str, float]:
        """Send mu."""
        return {"mu": self._options.mu}

    def apply(
        self,
        facts: RoundFacts,  # noqa: ARG002 - the port's signature
        model: Block,
        means: Mapping[str, Block],
        state: Mapping[str, Block],  # noqa: ARG002
    ) -> tuple[Block, dict[str, Block]]:
        """Return model + mean delta."""
        return model + means["delta"], {}
