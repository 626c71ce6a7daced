"""Bytes that sites send in training, and what is left of the model, by kind of compression; and what codecs take.

    cd benchmarks && python -m compression                        # flights, three seeds; about five minutes of CPU
    cd benchmarks && python -m compression --seeds 7 --kinds none top-k
    cd benchmarks && python -m compression --seeds                # what codecs take alone
    cd benchmarks && python -m compression --example ner_conll2003 --data FOLDER --preset quick

Each row is one `archipel simulate`, whose model is that of a live run, byte for byte. Bytes are those of the files that
sites send in training rounds; figures are the federated model's on everyone's held-out rows. The example's own
comparisons (alone, personalised) are left out. Rows go to results/local/compression.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from compression.costs import costs
from environments import ROOT

RESULTS = Path(__file__).parent.parent / "results" / "local" / "compression.json"
ARCHIPEL = Path(sys.executable).parent / "archipel"
KINDS: dict[str, str] = {
    "none": 'kind = "none"',
    "int8": 'kind = "int8"',
    "int4": 'kind = "int4"',
    "top-k": 'kind = "top-k"\nfraction = 0.1',
    "top-k 0.25": 'kind = "top-k"\nfraction = 0.25',
    "top-k 4 bits": 'kind = "top-k"\nfraction = 0.5\nbits = 4',
    "low-rank": 'kind = "low-rank"\nrank = 2',
}
SHOWN = ("auc", "accuracy", "macro_f1", "entity_f1", "log_loss")
TENTH, POINTS = 0.1, 0.005
"""The goal: a tenth of the bytes at no more than half a point lost."""
Row = dict[str, Any]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    wanted = _arguments().parse_args(words)
    rows: list[Row] = []
    for kind, (encode, decode) in costs().items():
        print(f"{kind:12} CPU nanoseconds a value: {encode:.1f} to write, {decode:.1f} to read")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for seed in wanted.seeds:
            for kind in wanted.kinds:
                rows.append(_row(place, wanted, kind, seed))
                print(_line(rows[-1]), flush=True)
    if rows:
        _table(rows)
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy", "torch")}
    versions |= {"python": platform.python_version()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([{**row, "versions": versions} for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compression", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--example", default="flights")
    parser.add_argument("--data", type=Path, help="for an example whose data are not installed")
    parser.add_argument("--preset", default=None, help="one of the example's own")
    parser.add_argument("--seeds", type=int, nargs="*", default=[7, 8, 9])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    return parser


def _row(place: Path, wanted: argparse.Namespace, kind: str, seed: int) -> Row:
    job = place / wanted.example / "job.toml"
    if not job.exists():
        shutil.copytree(ROOT / "examples" / wanted.example, job.parent)
    job.write_text((ROOT / "examples" / wanted.example / "job.toml").read_text(encoding="utf-8") + _preset(kind, seed))
    words = [str(ARCHIPEL), "simulate", str(job), "--json", *(["--preset", wanted.preset] if wanted.preset else [])]
    words += ["--preset", "measured", *(["--data", str(wanted.data.resolve())] if wanted.data else [])]
    answer = subprocess.run(words, cwd=place, check=True, capture_output=True)
    told = json.loads(answer.stdout)
    return {
        "example": wanted.example,
        "kind": kind,
        "seed": seed,
        "sent": told["sent_bytes"]["train"],
        "model": told["model_digest"],
        "figures": {name: value for name, value in told["models"]["federated"].items() if name in SHOWN},
    }


def _preset(kind: str, seed: int) -> str:
    return f"""
[preset.measured.federation]
seed = {seed}
[preset.measured.federation.compression]
{KINDS[kind]}
[preset.measured.evaluation]
alone = false
cross = false
personalise_epochs = 0
"""


def _line(row: Row) -> str:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in row["figures"].items())
    return f"{row['kind']:12} seed {row['seed']}: {row['sent']:13,} bytes; {figures}"


def _table(rows: list[Row]) -> None:
    """Print means over seeds, and the differences from sending everything, seed by seed."""
    whole = {row["seed"]: row for row in rows if row["kind"] == "none"}
    print(f"\n{'kind':12} {'bytes sent':>14} {'of them':>8}  figures (difference from none, mean over seeds)")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        each = [row for row in rows if row["kind"] == kind]
        sent = mean(row["sent"] for row in each)
        share = mean(row["sent"] / whole[row["seed"]]["sent"] for row in each) if whole else float("nan")
        words, lost = [], 0.0
        for name in each[0]["figures"]:
            value = mean(row["figures"][name] for row in each)
            gain = mean(row["figures"][name] - whole[row["seed"]]["figures"][name] for row in each) if whole else 0.0
            lost = max(lost, -gain) if name != "log_loss" else lost
            words.append(f"{name} {value:.4f} ({gain:+.4f})")
        met = "   goal met" if share <= TENTH and lost <= POINTS else ""
        print(f"{kind:12} {sent:14,.0f} {share:8.4f}  {', '.join(words)}{met}")


if __name__ == "__main__":
    main()
