"""FedAvgM: FedAvg with momentum on the server.

Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
arXiv:1909.06335, section 4, server momentum: v ← beta v + Dw, w ← w - v, with Dw = sum_k (n_k / n) (w - w_k), the
negative of our mean delta. With a server learning rate eta (1 in the paper): w ← w + eta v, v ← beta v + mean delta.
beta = 0 and eta = 1 is FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from archipel.federated.options import read_options
from archipel.federated.port import Block, RoundFacts
from archipel.spec import Value


class Options(Value, frozen=True, kw_only=True):
    """[federation] options of fedavgm."""

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """beta; the paper tries 0, 0.7, 0.9, 0.97, 0.99 and 0.997."""
    server_learning_rate: Annotated[float, Meta(gt=0)] = 1.0
    """eta."""


class FedAvgM:
    """Averaging with server momentum."""

    name: str = "fedavgm"
    weighted: tuple[str, ...] = ("delta",)
    uniform: tuple[str, ...] = ()
    state: tuple[str, ...] = ("momentum",)
    sent: tuple[str, ...] = ()

    def __init__(self, options: Mapping[str, float]) -> None:
        self._options = read_options(self.name, options, Options)

    def variant(self) -> dict[str, float]:
        """Plain local training: no numbers."""
        return {}

    def apply(
        self,
        facts: RoundFacts,  # noqa: ARG002 - the port's signature
        model: Block,
        means: Mapping[str, Block],
        state: Mapping[str, Block],
    ) -> tuple[Block, dict[str, Block]]:
        """Return the momentum step."""
        real = model.dtype.type
        momentum = real(self._options.momentum) * state["momentum"] + means["delta"]
        return model + real(self._options.server_learning_rate) * momentum, {"momentum": momentum}
