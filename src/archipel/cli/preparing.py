"""The rows of a run with local sites: one folder a site, made by the job's own function or given by --data.

    rows = Rows(job, job_folder, data, fleet)
    if not rows.ready:
        rows.put_in_place(rows.prepare(print))
    rows.folders()                                site → folder

They are made again when what they come from has changed: the job's code, or a file under --data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from msgspec import ValidationError, convert

from archipel.cli import entries
from archipel.cli.fleet import Fleet
from archipel.spec import DataError, JobSpec, SpecError, StateError, digest_value
from archipel.spec.canonical import Name

Say = Callable[[str], None]
_MOST_LINES = 40


class Rows:
    """Where the sites' rows are."""

    def __init__(self, job: JobSpec, folder: Path, data: Path | None, fleet: Fleet) -> None:
        self._job = job
        self._folder = folder
        self._data = data
        self._fleet = fleet
        self._seal = fleet.folder / "data.seal"
        self._root = fleet.folder / "data"

    @cached_property
    def stamp(self) -> str:
        """Name what the rows come from; a changed file, or changed code of the job, changes it."""
        sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(self._folder.glob("*.py"))}
        return digest_value([self._job.data.prepare, sources, str(self._data), _files_of(self._data)])

    @property
    def ready(self) -> bool:
        """Are they there, made from just this?"""
        if self._job.data.prepare is None:
            return True
        sealed = self._seal.is_file() and self._seal.read_text(encoding="utf-8") == self.stamp
        return sealed and self._root.is_dir()

    def folders(self) -> dict[str, Path]:
        """Return site → folder of rows that are ready."""
        entry = self._job.data.prepare
        if entry is not None:
            return _folders(self._root, f"`{entry}` made no folder")
        if self._data is None:
            raise DataError(
                f"job {self._job.name!r} has no `prepare` in [data], so it needs --data FOLDER, one folder per site",
                hint="archipel run JOB --data FOLDER",
            )
        return _folders(self._data, f"{self._data} holds no folder")

    def require_ready(self) -> None:
        """Refuse to make rows in a fleet that another command holds: its sites may be reading them."""
        if not self.ready:
            raise StateError(
                f"another command works with other data of {self._job.name!r}",
                hint="wait for it, or give this command a folder of its own to work in",
            )

    def prepare(self, say: Say) -> Path:
        """Let the job's function make them, aside, and show what it prints; return where, for `put_in_place`."""
        entry = self._job.data.prepare
        assert entry is not None
        source = self._folder / entry.partition(":")[0]
        if not source.is_file():
            raise SpecError(f"no file {source.name} beside the job file", hint="mend `prepare` in [data]")
        fresh = self._fleet.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        order = entries.Order(
            folder=str(self._folder),
            entry=entry,
            paths=(str(fresh), None if self._data is None else str(self._data)),
            result=str(self._fleet.folder / "prepare.answer"),
        )
        log = self._fleet.logs / "prepare.log"
        before = log.stat().st_size if log.is_file() else 0
        entries.begin(self._fleet.folder, "prepare", order, log).result()
        for line in last_lines(log, before):
            say(f"  {line}")
        _folders(fresh, f"`{entry}` made no folder")
        return fresh

    def put_in_place(self, fresh: Path) -> None:
        """From now on these are the rows."""
        self._seal.unlink(missing_ok=True)
        shutil.rmtree(self._root, ignore_errors=True)
        fresh.rename(self._root)
        self._seal.write_text(self.stamp, encoding="utf-8")


def last_lines(log: Path, offset: int) -> list[str]:
    """Return what a log says from a byte on: the end of it, where it is long."""
    lines = log.read_bytes()[offset:].decode(errors="replace").splitlines()
    if len(lines) <= _MOST_LINES:
        return lines
    return [f"… ({len(lines) - _MOST_LINES} lines before these are in {log})", *lines[-_MOST_LINES:]]


def _files_of(data: Path | None) -> list[list[str | int]]:
    """Return name, size and time of change of each file under `data`, or of the file that it is."""
    if data is None or not data.exists():
        return []
    files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    return [[str(path.relative_to(data)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _folders(root: Path, complaint: str) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError(f"no data folder at {root}", hint="give --data FOLDER, a folder with one folder per site")
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    if not found:
        raise DataError(complaint, hint="one folder per site is expected, named as the site")
    for name in found:
        try:
            convert(name, Name)
        except ValidationError as error:
            hint = "a site's name has lower-case letters, digits, '.', '_' and '-'; rename the folder"
            raise DataError(f"{name!r} in {root} is no name for a site", hint=hint) from error
    return found
