"""What simulated rounds cost: beside centralised training, beside the peers, and from the command.

    cd benchmarks && python -m simulation                                 # all tables, about an hour
    cd benchmarks && python -m simulation --tables models --models mlp --without flower nvflare
    cd benchmarks && python -m simulation --tables cifar --cifar cifar10_jpeg.npz --cifar-rounds 20

    models    rounds of five models, in parts of centralised training (w1.py)
    flute     a hundred rounds of logistic regression, as in FLUTE's table (flute.py)
    cifar     CIFAR-10 as published with pfl-research (cifar.py); where the images are given
    command   the first round, from the command (first_round.py)

CPU seconds are user and system time of all processes of a contender. Peers are installed in environments of their own
and work one at a time. Rows go to results/local/simulation.json, those of other tables stay.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from archipel.tasks.threads import settle_threads
from rounds.measure import adopt_orphans
from rounds.result import Row
from simulation import cifar, first_round, flute, w1
from simulation.peer import PROGRAMS

TABLES = ("models", "flute", "cifar", "command")
CIFAR = "ARCHIPEL_CIFAR10"
RESULTS = Path(__file__).resolve().parents[1] / "results/local/simulation.json"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the rows as they come."""
    wanted = _arguments().parse_args(words)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that peers are ended with us
    settle_threads("torch")
    if "command" in wanted.tables:
        _keep(first_round.measure(wanted.repeats))
    for model in wanted.models if "models" in wanted.tables else ():
        _keep(w1.measure(model, wanted.rounds, wanted.without))
    if "flute" in wanted.tables:
        _keep(flute.measure(wanted.repeats, wanted.without))
    if "cifar" in wanted.tables:
        if wanted.cifar and wanted.cifar.exists():
            _keep(cifar.measure(wanted.cifar, wanted.cifar_rounds, wanted.without))
        else:
            print(f"CIFAR-10 left out: give cifar10_jpeg.npz by --cifar or {CIFAR}")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simulation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--models", nargs="+", choices=list(w1.GOALS), default=list(w1.GOALS))
    parser.add_argument("--without", nargs="+", choices=list(PROGRAMS), default=[], help="peers to leave out")
    parser.add_argument("--rounds", type=int, default=10, help="of a model; the first is not counted")
    parser.add_argument("--repeats", type=int, default=3, help="of a command")
    named = os.environ.get(CIFAR)
    parser.add_argument("--cifar", type=Path, default=Path(named) if named else None, help=f"or {CIFAR}")
    parser.add_argument("--cifar-rounds", type=int, default=100)
    return parser


def _keep(rows: list[Row]) -> None:
    """Add rows to the file, in the place of those of the same name."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = msgspec.json.decode(RESULTS.read_bytes(), type=list[Row]) if RESULTS.exists() else []
    kept = {row.name: row for row in [*known, *rows]}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(list(kept.values()))))


if __name__ == "__main__":
    main()
