"""What every worker may read: the system's programs and libraries, and this Python with its packages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import archipel

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
_HARDWARE = ("/sys/devices/system",)
"""Where libraries look up how many cores there are."""


def system() -> tuple[str, ...]:
    """Return the folders and files of the system; links among them as they are."""
    return tuple(path for path in (*SYSTEM, *_SETTINGS, *_HARDWARE) if Path(path).exists())


def python(environment: Mapping[str, str], hidden: Iterable[Path]) -> tuple[str, ...]:
    """Return the folders of this Python, of its packages and of archipel itself, but for what is `hidden`."""
    here = str(Path.cwd())
    named = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent.parent)]
    named += [item for item in sys.path if item != here]  # the working directory is no library
    libraries = environment.get("LD_LIBRARY_PATH", "").split(":")
    roots = {Path(item).resolve() for item in [*named, *libraries] if item and Path(item).exists()}
    roots |= {Path(archipel.__file__).resolve().parent, Path(sys.prefix).absolute()}
    roots -= {root for root in roots if root == Path("/")}
    concealed = [path.resolve() for path in hidden]
    shown = {part for root in roots for part in _without(root, concealed)}
    known = {*shown, *(Path(base) for base in SYSTEM)}
    return tuple(sorted(str(path) for path in shown if str(path) not in SYSTEM and known.isdisjoint(path.parents)))


def _without(root: Path, hidden: Iterable[Path]) -> list[Path]:
    """Return `root`, or where something hidden lies in it, those of its parts in which nothing does."""
    inside = [path for path in hidden if path.is_relative_to(root)]
    if not inside:
        return [root]
    return [part for part in root.iterdir() if not any(path.is_relative_to(part) for path in inside)]
