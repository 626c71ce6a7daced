"""The ClientApp of the Flower peer: trains what the message names, so that the cohorts are everybody's."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from simulation.peers.program import Inputs

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client of a round's cohort."""
    del context
    config = message.content["config"]
    inputs, module = _opened(config["folder"])
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    rows = inputs.rows(config["server-round"], config["client"])
    inputs.train(module, rows)
    trained = ArrayRecord(module.state_dict())
    content = RecordDict({"arrays": trained, "metrics": MetricRecord({"num-examples": len(rows)})})
    return Message(content=content, reply_to=message)


@functools.cache
def _opened(folder: str) -> tuple[Inputs, nn.Module]:
    """Open the workload once in an actor."""
    torch.set_num_threads(1)
    inputs = Inputs(Path(folder), mapped=True)
    return inputs, inputs.model()
