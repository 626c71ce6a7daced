"""How long rounds over 952 kinds of phones are, what they waste, and whom they silence; and how fast a model learns.

    cd benchmarks && python -m stragglers --phones FOLDER/ai_benchmark_devices_venn.csv
    cd benchmarks && python -m stragglers --phones … --tables time

    time      rounds alone: 10,000 clients, 100 a round, 400 rows each, a model of 20 MB each way
    learning  W1's network (simulation/w1.py) over its 1,000 clients on such phones, a model of 20 MB: simulated time to
              an accuracy, and the accuracy after all rounds

Where the file is not there, nothing is measured, and that is said. Rows go to results/local/stragglers.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stragglers import learning, rounds
from stragglers.fleets import PHONES, write_trace

RESULTS = Path(__file__).parent.parent / "results" / "local" / "stragglers.json"
VARIABLE = "ARCHIPEL_PLANNING"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the rows."""
    parser = argparse.ArgumentParser(prog="stragglers", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--phones", type=Path, default=Path(os.environ.get(VARIABLE, ".")) / PHONES)
    parser.add_argument("--tables", nargs="+", choices=("time", "learning"), default=("time", "learning"))
    parser.add_argument("--rounds", type=int, default=300)
    wanted = parser.parse_args(words)
    if not wanted.phones.is_file():
        print(f"SKIPPED: {wanted.phones} is not there; give --phones, or its folder as {VARIABLE}")
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name:
        trace = write_trace(wanted.phones, Path(name))
        if "time" in wanted.tables:
            rows += rounds.measure(trace, wanted.rounds)
        if "learning" in wanted.tables:
            rows += learning.measure(trace, Path(name))
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy")}
    versions |= {"python": platform.python_version()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([row | {"versions": versions} for row in rows], indent=2) + "\n", "utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


if __name__ == "__main__":
    main()
