"""CIFAR-10 as published with pfl-research: 1,000 clients of 50 images, 50 a round, batches of 10, SGD 0.1, FedAvg.

The images are read from cifar10_jpeg.npz: JPEG files end to end (train_jpeg, test_jpeg), where each begins
(train_offsets, test_offsets), and train_labels, test_labels. The network has dropout, so only `loop` computes it, and
accuracies differ by what the dropouts draw.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from environments import environment
from rounds.result import Row
from simulation.contenders import Workload, executors
from simulation.costs import Turn, section, take_turns, typical
from simulation.examples import write
from simulation.peer import HERE, Peers, nothing_lost
from simulation.report import row

PARTS = ("train", "test")
CLIENTS, IMAGES = 1000, 50


def measure(data: Path, rounds: int, without: Sequence[str]) -> list[Row]:
    """Train `loop` and pfl in turns."""
    title = f"CIFAR-10: CPU and wall seconds of a round, medians of {rounds - 1} without the first"
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name, section(title):
        folder = Path(name)
        write_images(data, folder / "examples")
        workload = Workload("cifar", folder / "examples", folder / "scratch", rounds)
        ours = executors(workload, ("loop",))
        turns: dict[str, Turn] = {name: turn for name, (turn, _) in ours.items()}
        with Peers(folder / "peers") as peers:
            if "pfl" not in without:
                with nothing_lost():
                    turns["pfl"] = peers.start("pfl", workload, rounds)
            costs = take_turns(turns, rounds)
            accuracy = {name: run.figures("test")["accuracy"] for name, (_, run) in ours.items()}
            accuracy |= {name: peers.accuracy(name) for name in costs if name not in ours}
        rows = []
        for contender, taken in costs.items():
            spent = typical(taken)
            print(f"{contender:20}{spent.cpu:9.3f} CPU-s{spent.wall:9.3f} s   accuracy {accuracy[contender]:.4f}")
            rows.append(row(f"cifar: {contender}, CPU", spent.cpu, "CPU-s"))
            rows.append(row(f"cifar: {contender}, accuracy after {rounds} rounds", accuracy[contender], "share"))
        return rows


def write_images(data: Path, folder: Path) -> None:
    """Write the examples: images by channel, mean 0 and deviation 1 over the training images; clients at random."""
    python = environment("simulation-images", "pillow==12.0.0", "numpy")
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name:
        decode = [str(python), "-m", "simulation.decode", str(data), name]
        subprocess.run(decode, check=True, cwd=HERE)
        pixels = {part: np.load(Path(name) / f"{part}.npy") for part in PARTS}
    labels = np.load(data)
    train = pixels["train"].astype(np.float32)
    mean, deviation = train.mean((0, 1, 2)), train.std((0, 1, 2))
    x, test_x = ((part.astype(np.float32) - mean) / deviation for part in (train, pixels["test"]))
    clients = np.random.default_rng(0).permutation(np.repeat([f"c{number:04d}" for number in range(CLIENTS)], IMAGES))
    arrays = {
        "x": _by_channel(x),
        "y": labels["train_labels"].astype(np.int64),
        "client": clients,
        "test_x": _by_channel(test_x),
        "test_y": labels["test_labels"].astype(np.int64),
    }
    write(folder, arrays)


def _by_channel(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
