"""Flower's simulation: a ServerApp and as many virtual nodes as clients, a ClientApp in Ray actors of one CPU each.

Which nodes are drawn is Flower's affair; what each trains stands in its message.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from simulation.peers import flower_client
from simulation.peers.program import Peer


class _Cohorts(FedAvg):
    """FedAvg whose messages say which client of the cohort each is for."""

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Grid) -> Iterable[Message]:
        """Give each message a configuration of its own."""
        for client, message in enumerate(super().configure_train(server_round, arrays, config, grid)):
            own = ConfigRecord({**message.content["config"], "client": client})
            yield Message(
                content=RecordDict({"arrays": arrays, "config": own}),
                message_type=message.metadata.message_type,
                dst_node_id=message.metadata.dst_node_id,
            )

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Average the replies; a client that failed ends the program."""
        answers = list(replies)
        if failed := [message for message in answers if message.has_error()]:
            raise RuntimeError(failed[0].error.reason)
        return super().aggregate_train(server_round, answers)


def main() -> None:
    """Run the rounds; what the strategy calls after each takes the turns."""
    folder = sys.argv[1]
    peer = Peer(folder, mapped=True)
    settings = peer.settings
    module = peer.model()
    server = ServerApp()

    def turn(server_round: int, arrays: ArrayRecord) -> None:
        if server_round:
            peer.end()
        if server_round < settings["rounds"]:
            peer.begin()
        else:
            module.load_state_dict(arrays.to_torch_state_dict())

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        del context
        strategy = _Cohorts(
            fraction_train=settings["cohort"] / settings["clients"],
            fraction_evaluate=0.0,
            min_train_nodes=settings["cohort"],
            min_available_nodes=settings["clients"],
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(module.state_dict()),
            num_rounds=settings["rounds"],
            train_config=ConfigRecord({"folder": folder}),
            evaluate_fn=turn,
        )

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, flower_client.app, num_supernodes=settings["clients"], backend_config=resources)
    peer.finish(module)


if __name__ == "__main__":
    main()
