"""A Flower server that averages a vector of the asked size for some rounds and notes when each round ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the strategy calls `note` before the first and after each."""
    config = context.run_config
    marks = Path(str(config["marks"]))
    arrays = ArrayRecord({"weights": Array(np.zeros(int(config["parameters"]), np.float32))})

    def note(server_round: int, arrays: ArrayRecord) -> None:
        del arrays
        with marks.open("a", encoding="utf-8") as file:
            file.write(f"{server_round}\n")

    sites = int(config["sites"])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(config["rounds"]), evaluate_fn=note)
