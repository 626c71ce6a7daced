"""What devices a machine has: each adapter asked in a process of its own, its answer kept until the machine changes.

    survey = survey_devices(cache=cache_folder())
    survey.reports, survey.absent

A driver that crashes takes its own line with it, and nothing else; one after another, so that no measurement disturbs
another. What was measured holds as long as the facts of its file's name: processor, cores, memory, drivers, versions.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

import archipel
from archipel.spec import ArchipelError, SpecError, decode, digest_value, encode
from archipel.spec.device import Absent, DeviceReport, DeviceSurvey
from archipel.tasks.devices.adapters import ADAPTERS, open_device_adapter, require_adapter
from archipel.tasks.devices.host import processor

LONGEST_SECONDS = 300.0
"""An adapter that has not answered after this is given up."""
_FORMAT = 1
"""Grows when what is measured, or how, changes."""
_DRIVERS = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version")
Say = Callable[[str], None]


def survey_devices(
    names: Iterable[str] = tuple(ADAPTERS),
    *,
    cache: Path,
    fresh: bool = False,
    niceness: int = 0,
    say: Say = lambda _: None,
) -> DeviceSurvey:
    """Return what these adapters find.

    Args:
        names: Adapters to ask.
        cache: Folder of what was measured before.
        fresh: Measure again.
        niceness: What is added to that of the measuring processes; 19: only what nobody else wants is measured.
        say: Told which adapter is measured.

    Raises:
        UnknownNameError: there is no such adapter; nothing was measured.
    """
    asked, surveys = tuple(names), []
    for name in asked:
        require_adapter(name)
    with _alone(cache):
        for name in asked:
            known = None if fresh else _known(cache, name)
            if known is None:
                say(name)
                known = _asked(name, niceness)
                _keep(cache, name, known)
            surveys.append(known)
    return _joined(surveys)


def known_devices(cache: Path) -> DeviceSurvey:
    """Return what was measured before on this machine; nothing is measured."""
    return _joined([known for name in ADAPTERS if (known := _known(cache, name)) is not None])


def measure(name: str, now: float) -> DeviceSurvey:
    """Ask one adapter, in this process."""
    try:
        adapter = open_device_adapter(name)
        reports = tuple(
            DeviceReport(
                device=device,
                capabilities=adapter.capabilities(device),
                health=adapter.health(device),
                measured_at=now,
            )
            for device in adapter.discover()
        )
    except ArchipelError as error:
        return DeviceSurvey(absent=(Absent(adapter=name, reason=error.message, hint=error.hint),))
    return DeviceSurvey(reports=reports)


def cache_folder() -> Path:
    """Return where a machine's measurements are kept; whoever has no home keeps none."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (it never raises)
    return Path(home if os.path.isabs(home) else os.devnull) / "archipel" / "devices"  # noqa: PTH117


def machine_facts(name: str) -> dict[str, str | int | None]:
    """Return what the measurements of an adapter depend on."""
    _, packages = ADAPTERS[name]
    versions = {package: _version(package) for package in packages}
    drivers = {path: Path(path).read_text(encoding="utf-8").strip() for path in _DRIVERS if Path(path).is_file()}
    return {
        "format": _FORMAT,
        "archipel": archipel.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        **versions,
        **drivers,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _file(cache: Path, name: str) -> Path:
    return cache / f"{name}-{digest_value(machine_facts(name)).removeprefix('sha256:')[:16]}.json"


def _known(cache: Path, name: str) -> DeviceSurvey | None:
    try:
        return decode(_file(cache, name).read_bytes(), DeviceSurvey)
    except (OSError, SpecError):
        return None


def _keep(cache: Path, name: str, survey: DeviceSurvey) -> None:
    """Keep what was measured; what was not found is looked for again, and without a place nothing is kept."""
    file = _file(cache, name)
    partial = file.with_suffix(f".{os.getpid()}")
    if not survey.reports:
        file.unlink(missing_ok=True)
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encode(survey))
        partial.replace(file)
    except OSError:
        return


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Let one process of this machine measure at a time; the next finds what it measured."""
    with ExitStack() as stack:
        with suppress(OSError):  # no place for a cache: then nobody waits
            cache.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((cache / "lock").open("a")), fcntl.LOCK_EX)
        yield


def _asked(name: str, niceness: int) -> DeviceSurvey:
    """Ask an adapter in a process of its own."""
    words = [sys.executable, "-P", "-m", "archipel.tasks.devices", "ask", name, str(niceness)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=LONGEST_SECONDS, check=False)  # noqa: S603
        if done.returncode == 0:
            return decode(done.stdout, DeviceSurvey)
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        reason = f"its process ended with {done.returncode}: {last[0]}"
    except subprocess.TimeoutExpired:
        reason = f"no answer within {LONGEST_SECONDS:.0f} s"
    except SpecError as error:
        reason = error.message
    hint = f"{Path(sys.executable).name} -m archipel.tasks.devices ask {name} 0 shows all it says"
    return DeviceSurvey(absent=(Absent(adapter=name, reason=reason, hint=hint),))


def _joined(surveys: Iterable[DeviceSurvey]) -> DeviceSurvey:
    parts = tuple(surveys)
    return DeviceSurvey(
        reports=tuple(report for part in parts for report in part.reports),
        absent=tuple(one for part in parts for one in part.absent),
    )
