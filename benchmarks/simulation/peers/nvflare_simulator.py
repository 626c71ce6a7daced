"""NVFLARE's simulator with the FedAvg recipe: a client is a process while it trains one of the cohort's clients.

With as many processes as clients each lives on; with fewer, as any population needs, clients take turns on them.
Nothing pauses the simulator, so its rounds follow one another, and what one cost is seen from marks that the first
client leaves when it gets a model: the first turn ends at the second mark, and the last round, which no mark follows,
is not counted.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

from rounds.measure import wait_until
from simulation.peers.program import Peer

PATIENCE_SECONDS = 600


def main() -> None:
    """Run the simulator beside a watch over its marks."""
    folder = Path(sys.argv[1])
    peer = Peer(sys.argv[1])
    settings = peer.settings
    marks = folder / "marks"
    marks.touch()
    peer.begin()
    watch = threading.Thread(target=_watch, args=(peer, marks, settings["rounds"]), daemon=True)
    watch.start()
    torch.save(peer.model().state_dict(), folder / "initial.pt")
    recipe = FedAvgRecipe(
        name="workload",
        model={"class_path": "simulation.job.models.build", "args": {"name": settings["model"]}},
        initial_ckpt=str(folder / "initial.pt"),
        min_clients=settings["cohort"],
        num_rounds=settings["rounds"],
        train_script=str(Path(__file__).with_name("nvflare_client.py")),
        train_args=str(folder),
    )
    environment = SimEnv(
        num_clients=settings["cohort"], num_threads=settings["processes"], workspace_root=str(folder / "simulator")
    )
    recipe.execute(environment)
    watch.join(10)
    found = sorted((folder / "simulator").rglob("FL_global_model.pt"))
    module = peer.model()
    state = torch.load(found[-1], weights_only=False)["model"]
    module.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    peer.finish(module)


def _watch(peer: Peer, marks: Path, rounds: int) -> None:
    began = peer.spent()
    for number in range(2, rounds + 1):
        wait_until(lambda due=number: len(marks.read_text()) >= due, PATIENCE_SECONDS, "a round of NVFLARE")
        now = peer.spent()
        peer.tell(cpu=now[0] - began[0], wall=now[1] - began[1])
        began = now


if __name__ == "__main__":
    main()
