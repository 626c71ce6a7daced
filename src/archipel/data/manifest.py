"""The digest of a data set: names and contents of all its files, read in pieces.

Folder: every regular file below it, by its path relative to the folder, in the order of those paths. Single file: its
name and content. A changed byte, a renamed file and a file more or less each change the digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from archipel.spec import DataError

PIECE_BYTES = 1024 * 1024


def list_files(path: Path) -> tuple[tuple[str, Path], ...]:
    """Return (name, file) of all files of the data set at `path`, sorted by name."""
    if path.is_file():
        return ((path.name, path),)
    found = ((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    return tuple(sorted(found))


def digest_files(files: tuple[tuple[str, Path], ...]) -> tuple[str, int]:
    """Return the digest over names and contents, and the size of the contents in bytes."""
    whole = hashlib.sha256()
    size = 0
    for name, file in files:
        content = hashlib.sha256()
        try:
            with file.open("rb") as stream:
                while piece := stream.read(PIECE_BYTES):
                    content.update(piece)
                    size += len(piece)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror}", hint="check its permissions") from error
        # Both parts have a fixed length: no two different lists of files give the same bytes here.
        whole.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() + content.digest())
    return "sha256:" + whole.hexdigest(), size
