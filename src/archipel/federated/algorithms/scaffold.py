"""SCAFFOLD: control variates correct the drift of local training.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", arXiv:1910.06378,
section 4, Algorithm 1 and equation (5):

    x ← x + (eta_g / |S|) sum_i (y_i - x)
    c ← c + (1 / N) sum_i (c_i^+ - c_i) = c + (|S| / N) mean_i (c_i^+ - c_i)

The sites' side, with option II for c_i^+, is in archipel.federated.local_variant. The paper averages the models
equally; the deltas here carry the job's weights ([federation] weighting = "uniform" gives the paper's), the control
variates are always averaged equally.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from archipel.federated.options import read_options
from archipel.federated.port import Block, RoundFacts
from archipel.spec import Value


class Options(Value, frozen=True, kw_only=True):
    """[federation] options of scaffold."""

    server_learning_rate: Annotated[float, Meta(gt=0)] = 1.0
    """eta_g."""


class Scaffold:
    """Averaging with control variates."""

    name: str = "scaffold"
    weighted: tuple[str, ...] = ("delta",)
    uniform: tuple[str, ...] = ("control",)
    state: tuple[str, ...] = ("control",)
    sent: tuple[str, ...] = ("control",)

    def __init__(self, options: Mapping[str, float]) -> None:
        self._options = read_options(self.name, options, Options)

    def variant(self) -> dict[str, float]:
        """Tell the sites to keep control variates."""
        return {"scaffold": 1.0}

    def apply(
        self, facts: RoundFacts, model: Block, means: Mapping[str, Block], state: Mapping[str, Block]
    ) -> tuple[Block, dict[str, Block]]:
        """Return equation (5)."""
        share = facts.cohort / facts.population
        control = state["control"] + model.dtype.type(share) * means["control"]
        return model + model.dtype.type(self._options.server_learning_rate) * means["delta"], {"control": control}
