"""FedYogi: the mean update is a pseudo-gradient for Yogi on the server, whose second moment moves slowly.

Reddi et al., "Adaptive Federated Optimization", arXiv:2003.00295, section 3, Algorithm 2:

    m_t = beta_1 m_{t-1} + (1 - beta_1) D_t
    v_t = v_{t-1} - (1 - beta_2) D_t^2 sign(v_{t-1} - D_t^2)   (FedYogi)
    x_{t+1} = x_t + eta m_t / (sqrt(v_t) + tau)

with D_t the mean delta, m_{-1} = 0 and v_{-1} = tau^2 (the paper asks for v_{-1} >= tau^2). No bias correction, as in
the paper. Defaults beta_1 = 0.9, beta_2 = 0.99, tau = 1e-3 are those of its section 5 and appendix D. The paper
averages equally; here the job's weighting holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from msgspec import Meta

from archipel.federated.options import read_options
from archipel.federated.port import Block, RoundFacts
from archipel.spec import Value


class Options(Value, frozen=True, kw_only=True):
    """[federation] options of fedyogi."""

    server_learning_rate: Annotated[float, Meta(gt=0)] = 0.01
    """eta."""
    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Meta(gt=0)] = 1e-3
    """How adaptive: large tau is close to FedAvgM."""


class FedYogi:
    """Yogi on the server."""

    name: str = "fedyogi"
    weighted: tuple[str, ...] = ("delta",)
    uniform: tuple[str, ...] = ()
    state: tuple[str, ...] = ("momentum", "variance")
    sent: tuple[str, ...] = ()

    def __init__(self, options: Mapping[str, float]) -> None:
        self._options = read_options(self.name, options, Options)

    def variant(self) -> dict[str, float]:
        """Plain local training: no numbers."""
        return {}

    def apply(
        self, facts: RoundFacts, model: Block, means: Mapping[str, Block], state: Mapping[str, Block]
    ) -> tuple[Block, dict[str, Block]]:
        """Return Algorithm 2's server step."""
        options, real, delta = self._options, model.dtype.type, means["delta"]
        # State is zero before the first round; v begins at tau^2.
        before = state["variance"] + real(options.tau**2) if facts.step == 1 else state["variance"]
        momentum = real(options.beta1) * state["momentum"] + real(1 - options.beta1) * delta
        square = np.square(delta)
        variance = before - real(1 - options.beta2) * square * np.sign(before - square)
        following = model + real(options.server_learning_rate) * momentum / (np.sqrt(variance) + real(options.tau))
        return following, {"momentum": momentum, "variance": variance}
