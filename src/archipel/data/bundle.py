"""A task's code as one file: a zip whose bytes depend on nothing but names and contents.

    data = pack_bundle(job_folder, job.task.include)      # sorted, stored, fixed times: equal folders, equal digests
    open_bundle(data, site_folder / "bundles" / digest)   # checked whole, then put in place in one step

What a site unpacks came over the wire, so everything about it is doubted: names that climb out of the folder or are
absolute, links, names that differ in case only or repeat, encrypted members, more than 64 MiB, more than a hundredfold
compression.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from archipel.data.stores.spool import full_disk_named
from archipel.spec import DigestError, SpecError, TrustError

LIMIT_BYTES = 64 * 1024 * 1024
LIMIT_RATIO = 100
SIGNATURES = "signatures/*.json"
"""Files that travel with the code, whatever `include` says; see archipel.data.signatures."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR = (stat.S_IFREG | 0o644) << 16


def pack_bundle(folder: Path, include: Sequence[str]) -> bytes:
    """Zip the files of `folder` that match the glob patterns `include`, and their signatures.

    Hidden files and __pycache__ stay out.
    """
    names = sorted({name for pattern in include for name in _match(folder, pattern)})
    if not names:
        raise SpecError(
            f"no file of {folder.name!r} matches {', '.join(include) or 'nothing'}",
            hint="check `include` in [task]; its patterns are relative to the job file",
        )
    names = sorted({*names, *_match(folder, SIGNATURES)})
    out = io.BytesIO()
    total = 0
    # Stored, not deflated: compressed bytes differ between builds of zlib, and the digest must not.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            content = (folder / name).read_bytes()
            total += len(content)
            if total > LIMIT_BYTES:
                raise SpecError(f"the bundle is larger than {LIMIT_BYTES} bytes", hint="narrow `include` in [task]")
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = _REGULAR
            archive.writestr(entry, content)
    return out.getvalue()


def open_bundle(data: bytes, target: Path) -> None:
    """Check the bundle and unpack it as the folder `target`; one that is there already must hold the same files.

    Raises:
        TrustError: something about the archive is not as `pack_bundle` makes it.
        DigestError: `target` exists and differs.
        StorageFullError: there is no room for it; nothing is left behind.
    """
    members = read_bundle(data)
    if target.exists():
        _compare(members, target)
        return
    with full_disk_named(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".bundle-", dir=target.parent))
    try:
        with full_disk_named(target.parent):
            for name, content in members.items():
                file = scratch / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        try:
            os.rename(scratch, target)  # noqa: PTH104 (Path.rename hides that this is the one atomic step)
        except OSError:
            # Another process of this site was faster; then its files must be the same.
            if not target.exists():
                raise
            _compare(members, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_bundle(data: bytes) -> dict[str, bytes]:
    """Return name → content of a bundle, after all checks."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            return {entry.filename: _read(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError) as error:
        raise TrustError(f"the bundle is not a readable zip: {error}", hint="fetch it again") from error


def _match(folder: Path, pattern: str) -> list[str]:
    parts = PurePosixPath(pattern)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise SpecError(f"include pattern {pattern!r} leaves the job's folder", hint="use patterns such as 'lib/*.py'")
    if parts.name == "**":
        # Before Python 3.13 it matches folders alone, from then on files too: the bundle would depend on the version.
        raise SpecError(f"include pattern {pattern!r} ends in **", hint=f"write {pattern.rstrip('/')}/* for all files")
    names = []
    for file in folder.glob(pattern):
        relative = file.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in relative.parts):
            continue
        if any((folder / parent).is_symlink() for parent in (relative, *relative.parents)):
            raise SpecError(f"{relative.as_posix()} is a link", hint="bundle the file itself; links do not travel")
        if file.is_file():
            names.append(relative.as_posix())
    return names


def _check_entries(entries: Sequence[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    total = 0
    for entry in entries:
        name = entry.filename
        _check_name(name)
        mode = entry.external_attr >> 16
        if entry.is_dir() or (mode and not stat.S_ISREG(mode)) or entry.flag_bits & 0x1:
            raise TrustError(f"bundle member {name!r} is not a plain file", hint="make bundles with archipel")
        if name.casefold() in seen:
            raise TrustError(f"bundle member {name!r} is there twice", hint="make bundles with archipel")
        seen.add(name.casefold())
        total += entry.file_size
        if total > LIMIT_BYTES or entry.file_size > LIMIT_RATIO * max(entry.compress_size, 1):
            raise TrustError(f"the bundle unpacks to too much at {name!r}", hint="make bundles with archipel")
    for name in seen:
        if any(parent.as_posix() in seen for parent in PurePosixPath(name).parents):
            raise TrustError(f"bundle member {name!r} is both file and folder", hint="make bundles with archipel")


def _check_name(name: str) -> None:
    parts = PurePosixPath(name)
    windows = PureWindowsPath(name)
    climbs = ".." in parts.parts or ".." in windows.parts
    if parts.is_absolute() or windows.drive or windows.root or climbs or "\\" in name or parts.as_posix() != name:
        raise TrustError(f"bundle member {name!r} leaves its folder", hint="make bundles with archipel")
    if not name.isprintable():
        raise TrustError("a bundle member has control characters in its name", hint="make bundles with archipel")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise TrustError(f"bundle member {entry.filename!r} is packed unusually", hint="make bundles with archipel")
    with archive.open(entry) as stream:
        # The header's word on the size was believed above; here it is held to it.
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise TrustError(f"bundle member {entry.filename!r} lies about its size", hint="make bundles with archipel")
    return content


def _compare(members: dict[str, bytes], target: Path) -> None:
    there = {
        file.relative_to(target).as_posix(): file
        for file in target.rglob("*")
        if not file.is_dir() and "__pycache__" not in file.parts
    }
    if set(there) != set(members) or any(there[name].read_bytes() != content for name, content in members.items()):
        raise DigestError(f"the unpacked bundle {target.name!r} was changed", hint="delete that folder and try again")
