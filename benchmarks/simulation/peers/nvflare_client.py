"""The script of an NVFLARE client: takes the model, trains its client of the cohort, sends the model back."""

from __future__ import annotations

import sys
from pathlib import Path

import nvflare.client as flare
import torch

from simulation.peers.program import Inputs


def main() -> None:
    """Work until the simulator has no more rounds."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    inputs = Inputs(folder, mapped=True)
    module = inputs.model()
    flare.init()
    client = int(flare.get_site_name().rpartition("-")[2]) - 1
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        if client == 0:
            with (folder / "marks").open("a", encoding="utf-8") as file:
                file.write(".")
        module.load_state_dict({name: torch.as_tensor(value) for name, value in received.params.items()})
        rows = inputs.rows(received.current_round + 1, client)
        inputs.train(module, rows)
        meta = {"NUM_STEPS_CURRENT_ROUND": len(rows)}
        flare.send(flare.FLModel(params=module.state_dict(), meta=meta))


if __name__ == "__main__":
    main()
