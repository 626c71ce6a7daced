"""How many training rows are read off what somebody sees, and how well: `cd benchmarks && python -m inversion`.

    --seeds N      as many draws of model and rows each (default 5)
    --picture      also results/local/inversion.png: four digits, and the nearest candidate in each scene

Handwritten digits of scikit-learn, 8 x 8; a network with one hidden layer; the attack is in leak.py, who sees what in
scenes.py. Recovered: 30 dB or more. Rows go to results/local/inversion.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archipel.security.privacy import Gaussian, epsilon_of
from inversion.leak import READABLE
from inversion.scenes import SCENES

RESULTS = Path(__file__).parent.parent / "results" / "local"
PICTURED = (0, 5, 9, 13, 15, 17)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="inversion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", action="store_true")
    wanted = parser.parse_args(words)
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "numpy", "cryptography")}
    versions |= {"python": platform.python_version(), "scikit-learn (the digits)": "1.9.1"}
    rows: list[dict[str, object]] = []
    print("| what is seen | rows recovered | PSNR of a row, median |\n|---|---|---|")
    for scene in SCENES:
        found = [scene.psnr(seed) for seed in range(wanted.seeds)]
        shares = [float((one >= READABLE).mean()) for one in found]
        share, spread = statistics.fmean(shares), statistics.stdev(shares) if len(shares) > 1 else 0.0
        decibels = float(np.median(np.concatenate(found)))
        print(f"| {scene.name} | {share:.0%} ± {spread:.0%} | {decibels:.0f} dB |", flush=True)
        more = {"goal": "", "met": None, "seeds": wanted.seeds, "versions": versions}
        rows.append({"name": f"{scene.name}: rows recovered", "value": share, "deviation": spread, "unit": "1", **more})
        rows.append({"name": f"{scene.name}: PSNR, median", "value": decibels, "unit": "dB", **more})
    for noise in (0.1, 1.0):
        epsilon = epsilon_of(Gaussian(noise_multiplier=noise), delta=1e-5)
        print(f"noise {noise:g}, one release, every row or site in it: epsilon {epsilon:.2f} at delta 1e-5")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "inversion.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    print("rows written to benchmarks/results/local/inversion.json")
    if wanted.picture:
        _draw_picture(RESULTS / "inversion.png")


def _draw_picture(path: Path) -> None:
    """Draw the first rows of the first seed, and below each what is nearest to it."""
    import matplotlib as mpl  # noqa: PLC0415  # only here

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(len(PICTURED), 8, figsize=(8, 1.1 * len(PICTURED)))
    for line, place in zip(axes, PICTURED, strict=True):
        truth, seen = SCENES[place].seen(0)
        for axis in line:
            axis.axis("off")
        for index, row in enumerate(truth[:4]):
            nearest = seen[((seen - row) ** 2).mean(axis=1).argmin()]
            line[2 * index].imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            line[2 * index + 1].imshow(nearest.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        line[0].set_title(f"{SCENES[place].name} (row, found; …)", fontsize=7, loc="left")
    figure.savefig(path, dpi=110)
    print(f"picture written to benchmarks/results/local/{path.name}")


if __name__ == "__main__":
    main()
