"""Where the key file of a folder goes that nobody has named one for: outside of it, where that is safe.

    key_url(Path("/srv/archipel"), os.environ)     # "file:/home/ada/.config/archipel/keys/archipel-3f2a91c0.key"

Outside, a copy of the folder (a backup, a share, a disk that is handed back) does not hold its own key. But a key that
can vanish while the data stay would lose them all: a container's home ends with the container, its volumes do not. So
the key lies in the user's configuration folder, unless that is on a file system that does not last and the data are on
another; then it lies beside the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from archipel.security.sealing.keyring import DEFAULT_KEY

_FLEETING = frozenset({"overlay", "aufs", "tmpfs", "ramfs"})
"""File systems that a container's own files, or nothing but memory, are on."""


def key_url(folder: Path, environment: Mapping[str, str], mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the URL of the key file that is to be made for `folder`; nothing is made yet."""
    named, home = environment.get("XDG_CONFIG_HOME"), environment.get("HOME")
    if not named and not home:
        return DEFAULT_KEY
    place = (Path(named) if named else Path(home or "/") / ".config").absolute()
    target = folder.resolve()
    if place.is_relative_to(target) or not _lasts_as_long(place, target, mounts):
        return DEFAULT_KEY
    mark = hashlib.sha256(str(target).encode()).hexdigest()[:8]
    return f"file:{place / 'archipel' / 'keys' / f'{target.name}-{mark}.key'}"


def _lasts_as_long(place: Path, target: Path, mounts: Path) -> bool:
    there, here = _existing(place), _existing(target)
    return there.stat().st_dev == here.stat().st_dev or _kind_of(there, mounts) not in _FLEETING


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _kind_of(path: Path, mounts: Path) -> str:
    """Return the type of the file system that a path is on; "overlay" where that cannot be told."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "overlay"
    found = [(len(Path(point).parts), kind) for _, point, kind, *_ in lines if path.resolve().is_relative_to(point)]
    return max(found, key=lambda one: one[0], default=(0, "overlay"))[1]
