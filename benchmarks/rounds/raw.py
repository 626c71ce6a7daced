"""The physical limit as a contender: one gRPC server and one client process a site; see raw_stream.py."""

from __future__ import annotations

import sys
from pathlib import Path

from rounds.identities import write_identities
from rounds.measure import START_SECONDS, Tree, wait_until
from rounds.result import Cost, Workload

PROGRAM = Path(__file__).parent / "raw_stream.py"


def measure(workload: Workload, folder: Path) -> Cost:
    """Run the rounds once; what came before the first round's end is left out."""
    return _measure(workload, folder)


def measure_kept(workload: Workload, folder: Path) -> Cost:
    """Run the rounds with every blob hashed and on disk at both ends."""
    return _measure(workload, folder, "keep")


def _measure(workload: Workload, folder: Path, *mode: str) -> Cost:
    names = tuple(f"site{index}" for index in range(workload.sites))
    write_identities(folder / "tls", ("server", *names))
    (folder / "marks").touch()
    tree = Tree()
    try:
        return _run(tree, workload, names, folder, mode)
    finally:
        tree.stop()


def _run(tree: Tree, workload: Workload, names: tuple[str, ...], folder: Path, mode: tuple[str, ...]) -> Cost:
    program = [sys.executable, str(PROGRAM)]
    server = [*program, "server", str(folder), str(workload.model_bytes), str(workload.sites), *mode]
    tree.start(server, log=folder / "server.log")
    wait_until((folder / "port").exists, START_SECONDS, "the raw server")
    for name in names:
        # Two rounds more than are counted: the first brings connections up, the last keeps everyone alive to the end.
        client = [*program, "client", str(folder), name, str(workload.rounds + 2), *mode]
        tree.start(client, log=folder / f"{name}.log")
    _wait_for_round(tree, 1, folder)
    cpu_before = tree.cpu_seconds()
    _wait_for_round(tree, workload.rounds + 1, folder)
    cpu_seconds = (tree.cpu_seconds() - cpu_before) / workload.rounds
    return Cost(cpu_seconds=cpu_seconds, peak_bytes={"server": tree.peak_bytes("raw_stream.py server")})


def _wait_for_round(tree: Tree, number: int, folder: Path) -> None:
    def reached() -> bool:
        tree.watch_memory()
        return (folder / "marks").stat().st_size >= number

    wait_until(reached, 300, f"round {number} of the raw stream")
