"""One session of Flower's SecAgg+, by Flower's own workflow and mod, in one process: CPU seconds as JSON.

    .venv-bench/flower/bin/python flower_session.py SITES PARAMETERS SHARES THRESHOLD GONE

Run by Flower's interpreter: it imports nothing of ours. A grid that hands messages over in memory stands in for the
wire; every tenth of the sites is `GONE` after it has shared keys, until so many are. What a site's training would take
is left out; what the server's strategy does with the results is in, for the workflow calls it.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity


class Proxy(ClientProxy):
    """A site as the server's client manager knows it; the workflow only reads its node_id."""

    def __init__(self, node: int) -> None:
        super().__init__(str(node))
        self.node_id = node

    def _never(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _never


class Grid:
    """Sites in this process, a clock on each."""

    def __init__(self, nodes: list[int], parameters: int, gone: set[int]) -> None:
        self.gone, self.seconds = gone, defaultdict[int, float](float)
        self.outside = 0.0
        """CPU seconds of what stands for training: nobody's."""
        self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in nodes}
        base = np.random.default_rng(0).normal(0, 0.01, parameters).astype(np.float32)
        self.updates = {node: np.roll(base, 997 * node) for node in nodes}
        self.weights = {node: 100 + node % 900 for node in nodes}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:  # noqa: ARG002
        """Let every site answer."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        configs = message.content.config_records[RECORD_KEY_CONFIGS]
        if node in self.gone and configs[Key.STAGE] in {Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK}:
            return Message(Error(0, "gone"), reply_to=message)
        # Copied, for no wire does it: the mod takes out what it has read, and all sites are sent the same object.
        message.content = RecordDict({**message.content, RECORD_KEY_CONFIGS: ConfigRecord(dict(configs))})
        before = time.process_time()
        trained = self._trained(node, message)
        self.outside += time.process_time() - before

        def train(*_: Any) -> Message:
            return trained

        before = time.process_time()
        answer = secaggplus_mod(message, self._contexts[node], train)
        self.seconds[node] += time.process_time() - before
        return answer

    def _trained(self, node: int, message: Message) -> Message:
        fitted = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self.updates[node]]), self.weights[node], {})
        return Message(compat.fitres_to_recorddict(fitted, keep_input=False), reply_to=message)


def main(sites: int, parameters: int, shares: int, threshold: int, gone: int) -> None:
    """Run one session, check its mean, print what it took."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    nodes = list(range(1, sites + 1))
    grid = Grid(nodes, parameters, set(nodes[:: max(1, sites // gone)][:gone]) if gone else set())
    manager = SimpleClientManager()
    for node in nodes:
        manager.register(Proxy(node))
    strategy = FedAvg(fraction_evaluate=0.0, min_fit_clients=sites, min_available_clients=sites)
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), ServerConfig(num_rounds=1), strategy, manager)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    start = ndarrays_to_parameters([np.zeros(parameters, np.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, keep_input=True)
    workflow = SecAggPlusWorkflow(shares, threshold, max_weight=1000.0)
    before = time.process_time()
    workflow(grid, context)
    all_seconds = time.process_time() - before - grid.outside
    found = compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    _check(grid, parameters_to_ndarrays(found)[0])
    finished = [seconds for node, seconds in grid.seconds.items() if node not in grid.gone]
    spent = {
        "site": statistics.median(finished),
        "control": all_seconds - sum(grid.seconds.values()),
        "all": all_seconds,
    }
    print(json.dumps(spent))


def _check(grid: Grid, mean: np.ndarray) -> None:
    here = [node for node in grid.updates if node not in grid.gone]
    weights = np.array([grid.weights[node] for node in here], np.float64)
    exact = sum(grid.updates[node][:1000] * weight for node, weight in zip(here, weights / weights.sum(), strict=True))
    if np.abs(mean[:1000] - exact).max() > 1e-3:
        raise SystemExit(f"Flower's mean is another by {np.abs(mean[:1000] - exact).max()}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
