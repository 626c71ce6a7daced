"""The sandbox's decisions: what is shown, passed on and filtered, and what is said where a wall is missing."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import msgspec
import pytest

from archipel.site.agent import SiteFolder, read_status
from archipel.site.agent.agent import Agent
from archipel.site.agent.terms import terms_of
from archipel.site.sandbox import Guard, Limits, Sandbox, View, Walls, confine, library, seccomp, survey
from archipel.site.sandbox.denial import NetworkDeniedError, denial_of
from archipel.site.sandbox.terms import Confinement
from archipel.spec import StateError
from archipel.spec.policy import read_policy
from unit.site.site_fakes import FakeControl, living

FULL = Walls(bubblewrap="/usr/bin/bwrap", landlock=7, seccomp=True, no_groups="no cgroup v2")
PARTIAL = Walls(no_bubblewrap="bubblewrap is not installed", landlock=7, seccomp=True, groups=Path("/groups"))
MISSING = "PARTIAL: no namespaces (bubblewrap is not installed)"
BARE = Walls(no_bubblewrap="bubblewrap is not installed")


# ---- the filter of system calls ------------------------------------------------------------------------------------

ALLOW, ERROR, ARCHITECTURES = 0x7FFF0000, 0x00050000, {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(code: bytes, architecture: int, number: int, first_argument: int = 0) -> int:
    """Run a filter as the kernel would: an interpreter of the five instructions it is made of."""
    data = struct.pack("=IIQQ", number, architecture, 0, first_argument)
    at, loaded = 0, 0
    while True:
        kind, yes, no, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if kind == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif kind == 0x06:
            return int(value)
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[kind]
            at += yes if holds else no


NEW_USER, A_THREAD = 0x10000000, 0x003D0F00
CALLS = [
    ("read", {"x86_64": 0, "aarch64": 63}, 0, ALLOW),
    ("socketpair", {"x86_64": 53, "aarch64": 199}, 0, ALLOW),
    ("socket", {"x86_64": 41, "aarch64": 198}, 2, ERROR | errno.EACCES),
    ("a thread", {"x86_64": 56, "aarch64": 220}, A_THREAD, ALLOW),
    ("a process with users of its own", {"x86_64": 56, "aarch64": 220}, NEW_USER | 17, ERROR | errno.EPERM),
    ("clone3", {"x86_64": 435, "aarch64": 435}, 0, ERROR | errno.ENOSYS),
    ("unshare", {"x86_64": 272, "aarch64": 97}, NEW_USER, ERROR | errno.EPERM),
    ("ptrace", {"x86_64": 101, "aarch64": 117}, 0, ERROR | errno.EPERM),
    ("mount", {"x86_64": 165, "aarch64": 40}, 0, ERROR | errno.EPERM),
    ("io_uring_setup", {"x86_64": 425, "aarch64": 425}, 0, ERROR | errno.EPERM),
    ("setresuid", {"x86_64": 117, "aarch64": 147}, 0, ERROR | errno.EPERM),
    ("a call by the numbers of x32", {"x86_64": 0x40000000 + 41, "aarch64": 0x40000000}, 0, ERROR | errno.EPERM),
]


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(("name", "numbers", "argument", "expected"), CALLS, ids=lambda item: item)
def test_the_filter_lets_work_pass_and_nothing_that_an_escape_begins_with(
    machine: str, name: str, numbers: dict[str, int], argument: int, expected: int
) -> None:
    assert verdict(seccomp.program(machine), ARCHITECTURES[machine], numbers[machine], argument) == expected


def test_calls_by_the_numbers_of_another_architecture_are_refused() -> None:
    assert verdict(seccomp.program("x86_64"), 0x40000003, 0) == ERROR | errno.EPERM


# ---- what is shown -------------------------------------------------------------------------------------------------


def view_of(folder: Path, **more: object) -> View:
    bench = folder / "site" / "bench" / "one"
    bench.mkdir(parents=True)
    data = folder / "birds.csv"
    data.touch()
    known: dict[str, object] = {
        "bench": bench,
        "results": (bench / "result-0",),
        "data": (data,),
        "hidden": (folder / "site",),
    }
    return View(**{**known, **more})  # type: ignore[arg-type]


def test_a_library_in_which_the_site_lies_is_shown_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("package", "site", ".archipel/sites/other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    shown = library.python({}, [tmp_path / "site", tmp_path / ".archipel" / "sites" / "mine"])
    assert str(tmp_path / "package") in shown
    assert not [path for path in shown if path in {str(tmp_path), str(tmp_path / "site")} or ".archipel" in path]


def test_the_working_directory_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert str(tmp_path) not in library.python({}, [])


def test_a_worker_gets_of_the_environment_what_it_needs_and_no_secret(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "JAX_ENABLE_X64": "1", "ARCHIPEL_DATABASE": "postgresql://u:secret@h/d", "TOKEN": "t"}
    environment = Guard(Sandbox(), FULL, given).enclose(view_of(tmp_path)).environment
    assert {"PATH", "JAX_ENABLE_X64", "HOME", "TMPDIR"} <= set(environment)
    assert not {"ARCHIPEL_DATABASE", "TOKEN"} & set(environment)
    assert environment["HOME"] == environment["TMPDIR"] == "/tmp"


def test_the_data_are_shown_read_only_and_results_alone_may_be_written(tmp_path: Path) -> None:
    view = view_of(tmp_path)
    enclosure = Guard(Sandbox(), FULL, {}).enclose(view)
    words = list(enclosure.words)
    assert words[words.index(str(view.data[0])) - 1] == "--ro-bind"
    writable = [words[at + 1] for at, word in enumerate(words) if word == "--bind"]
    assert writable == [str(view.results[0])]
    assert not [
        word for word in words if word.startswith(str(tmp_path / "site")) and word not in {str(view.bench), *writable}
    ]
    assert enclosure.confinement is not None
    assert enclosure.confinement.write == (str(view.results[0]),)
    assert str(view.bench) in enclosure.confinement.read


def test_a_declared_cache_is_shown_and_a_gpu_where_both_sides_want_it(tmp_path: Path) -> None:
    cache = tmp_path / "models"
    cache.mkdir()
    devices = sorted(str(path) for path in Path("/dev").glob("nvidia*"))
    for gpu in (True, False):
        view = view_of(tmp_path / str(gpu), gpu=True)
        found = Guard(Sandbox(caches=(str(cache),), gpu=gpu), FULL, {}).enclose(view).confinement
        assert found is not None
        assert str(cache) in found.read
        assert list(found.devices) == (devices if gpu else [])


def test_limits_are_the_sites_and_no_file_takes_more_than_a_quarter_of_the_free_disk(tmp_path: Path) -> None:
    sandbox = Sandbox(limits=Limits(memory_mb=3000, processes=7, file_mb=10_000_000, open_files=99))
    limits = Guard(sandbox, PARTIAL, {}).enclose(view_of(tmp_path)).confinement
    assert limits is not None
    room = os.statvfs(tmp_path)
    assert limits.limits["FSIZE"] <= room.f_bavail * room.f_frsize / 4 + 70_000_000
    del limits.limits["FSIZE"]
    assert limits.limits == {"DATA": 3_000_000_000, "NPROC": 7, "NOFILE": 99, "CORE": 0, "AS": 22_000_000_000}


# ---- where a wall is missing ---------------------------------------------------------------------------------------


def test_full_is_refused_by_name_where_a_wall_is_missing_and_less_is_not() -> None:
    with pytest.raises(StateError, match="full sandbox only: no namespaces") as caught:
        Guard(Sandbox(require="full"), PARTIAL)
    assert "apt-get install bubblewrap" in caught.value.hint
    assert Guard(Sandbox(require="full"), FULL).is_closed
    assert not Guard(Sandbox(), PARTIAL).is_closed


@pytest.mark.parametrize(
    ("walls", "line"),
    [
        (FULL, "full (namespaces, Landlock 7, seccomp, limits on each process alone: no cgroup v2)"),
        (PARTIAL, f"{MISSING}; what holds: Landlock 7, seccomp, limits on all processes together"),
    ],
)
def test_one_line_says_what_is_missing_and_what_holds(walls: Walls, line: str) -> None:
    assert Guard(Sandbox(), walls).line() == line


def test_with_no_wall_at_all_each_is_named() -> None:
    line = Guard(Sandbox(), BARE).line()
    assert [name in line for name in ("no namespaces", "no Landlock", "no filter", "what holds: limits")] == [True] * 4


def test_none_confines_nothing_and_says_so(tmp_path: Path) -> None:
    guard = Guard(Sandbox(require="none"), FULL, {"TOKEN": "t"})
    assert guard.enclose(view_of(tmp_path)) == msgspec.structs.replace(
        guard.enclose(view_of(tmp_path / "again")), words=(), environment={"TOKEN": "t"}, confinement=None
    )
    assert (guard.line(), guard.is_closed) == ("none, as this site has it", False)


def test_a_bubblewrap_that_does_not_start_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = survey()
    assert (found.bubblewrap, found.no_bubblewrap) == (None, "bwrap: No permissions to create new namespace")
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert survey().no_bubblewrap == "bubblewrap is not installed"


def test_a_process_with_threads_is_not_closed_halfway() -> None:
    with pytest.raises(StateError, match="threads run before"):
        import threading

        waiting = threading.Event()
        thread = threading.Thread(target=waiting.wait)
        thread.start()
        try:
            confine(Confinement())
        finally:
            waiting.set()
            thread.join()


async def test_a_partial_sandbox_is_said_to_control_and_in_the_status(
    control: FakeControl, place: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    async with living(place):
        await control.until(lambda: bool(control.notes))
    note = control.notes[0]
    assert (note.what, note.level) == ("site.sandbox.partial", "warning")
    status = read_status(place.path)
    assert status is not None
    assert status.sandbox == note.detail["sandbox"] != ""
    assert "bubblewrap is not installed" in status.sandbox


def test_a_policys_words_are_the_terms_its_sandbox_keeps() -> None:
    policy = read_policy(
        b'[sandbox]\nrequire = "none"\ncaches = ["/models"]\ngpu = false\n'
        b'[limits]\ncores = 2\nmemory = "3 GB"\ndisk = "1 GB"\ntmp = "500 MB"\nprocesses = 9\nopen_files = 99',
        "policy.toml",
    )
    limits = Limits(cores=2, memory_mb=3000, file_mb=1000, tmp_mb=500, processes=9, open_files=99)
    assert terms_of(policy) == Sandbox(require="none", caches=("/models",), gpu=False, limits=limits)
    assert terms_of(read_policy(b"", "policy.toml")) == Sandbox()


def test_a_site_that_wants_every_wall_does_not_start_without_one(
    place: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    place.policy.write_text('[sandbox]\nrequire = "full"\n')
    with pytest.raises(StateError, match="bubblewrap is not installed") as caught:
        Agent(place)
    assert "policy" in caught.value.hint


# ---- what a task is told -------------------------------------------------------------------------------------------


def wrapped(error: BaseException) -> Exception:
    outer = RuntimeError("no weights")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NetworkDeniedError(13, "x"), "no network"),
        (wrapped(NetworkDeniedError(13, "x")), "no network"),
        (PermissionError(errno.EACCES, "x"), "in a sandbox"),
        (OSError(errno.EROFS, "x"), "in a sandbox"),
        (OSError(errno.ENOSPC, "x"), ""),
        (ValueError("x"), ""),
        (None, ""),
    ],
)
def test_an_error_names_the_sandbox_where_it_has_a_part_in_it(error: BaseException | None, said: str) -> None:
    found = denial_of(error)
    assert (said in found) if said else found == ""
