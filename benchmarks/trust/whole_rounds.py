"""Whole rounds in which nothing is computed, as `python -m rounds` measures them: with a trust that is switched off.

Control and four sites, each a process, TLS between them; 10 MB out and back. The sandbox is each site's, by its policy;
encryption at rest is control's and the sites', by --key.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from rounds import ours
from rounds.result import Workload
from trust.figure import Figure

WORKLOAD = Workload(name="10 MB", parameters=2_500_002, rounds=20)
SETTINGS = {
    "all walls, plain at rest": ours.Setting(require="available"),
    "no sandbox, plain at rest": ours.Setting(require="none"),
    "all walls, sealed at rest": ours.Setting(require="available", key="file:seal.key"),
}


def rounds() -> list[Figure]:
    """Run each setting once."""
    figures = []
    for name, setting in SETTINGS.items():
        folder = Path(tempfile.mkdtemp(prefix="archipel-bench-"))
        cost = ours.measure(WORKLOAD, folder, setting)
        shutil.rmtree(folder)
        figures.append(Figure(f"round of 10 MB, 4 sites: {name}", cost.cpu_seconds, "CPU-s"))
    return figures
