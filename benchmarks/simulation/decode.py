"""JPEG files to pixels, in an environment with Pillow: `python -m simulation.decode cifar10_jpeg.npz FOLDER`."""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Write train.npy and test.npy, uint8 of (images, 32, 32, 3)."""
    files = np.load(sys.argv[1])
    for part in ("train", "test"):
        whole, offsets = files[f"{part}_jpeg"].tobytes(), files[f"{part}_offsets"]
        pairs = itertools.pairwise(offsets)
        images = [np.asarray(Image.open(io.BytesIO(whole[start:end])).convert("RGB")) for start, end in pairs]
        np.save(Path(sys.argv[2]) / f"{part}.npy", np.stack(images))


if __name__ == "__main__":
    main()
