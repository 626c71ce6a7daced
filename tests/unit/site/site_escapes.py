"""Fifteen things that task code must not be able to do, written as a task; each says whether it has got through.

The task is told by options where the things it must not reach are. It answers with sums: 1 for a way out that was
open, 0 for one that was not; what stopped it is printed, and so is in the site's log.
"""

from __future__ import annotations

ESCAPES = (
    "read_shadow",
    "read_another_data_set",
    "read_the_agents_key",
    "read_environments",
    "write_outside",
    "open_tcp",
    "send_udp",
    "connect_abstract_socket",
    "fork_bomb",
    "allocate_64_gb",
    "fill_the_disk",
    "ptrace_the_agent",
    "signal_the_agent",
    "mount_or_make_a_namespace",
    "open_a_raw_device",
)

TASK = '''
import contextlib
import ctypes
import mmap
import os
import signal
import socket
import stat
import tempfile
from pathlib import Path

import numpy as np
from archipel.tasks.numpy import NumpyTask
from archipel.tasks.numpy.task import rows_of
from archipel.tasks.port import Split

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_NAMESPACE = 0x10000000, 0x00020000
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
FORKS, FILL_MB = 300, 96
NO_RESERVE = 0x4000


def call(function, *arguments):
    if function(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def in_a_child(attempt):
    """Try something whose success would change this process."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def read_shadow(o):
    return bool(Path(o["shadow"]).read_text())


def read_another_data_set(o):
    return bool(Path(o["other"]).read_text())


def read_the_agents_key(o):
    found = [path for path in (Path(o["site"]) / "key.pem", Path(o["site"]) / "journal.db") if path.exists()]
    return any(path.read_bytes() for path in found)


def read_environments(o):
    found = False
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found = found or o["marker"].encode() in path.read_bytes()
    return found


def write_outside(o):
    mine = [os.path.dirname(file) for file in (o["data"], __file__)]
    for folder in (o["outside"], o["site"], o["site"] + "/spool", *mine):
        with contextlib.suppress(OSError):
            Path(folder, "planted").write_text("x")
    for file in (o["data"], __file__):
        with contextlib.suppress(OSError):
            open(file, "r+").close()
            return True
    return Path(o["outside"], "planted").exists()


def open_tcp(o):
    with socket.create_connection(("127.0.0.1", o["tcp"]), timeout=5):
        return True


def send_udp(o):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"leak", ("127.0.0.1", o["udp"]))
        s.settimeout(5)
        return s.recv(10) == b"heard"


def connect_abstract_socket(o):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(chr(0) + o["abstract"])
        return True


def fork_bomb(o):
    children = []
    try:
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
        return True
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def allocate_64_gb(o):
    size = 64 << 30
    for kind in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
        with contextlib.suppress(OSError):
            mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS | NO_RESERVE).close()
            return True
    raise MemoryError


def fill_the_disk(o):
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILL_MB):
            with open(f"{folder}/{number}", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1_000_000)
    return True


def ptrace_the_agent(o):
    call(LIBC.ptrace, PTRACE_SEIZE, o["victim"], 0, 0)
    return True


def signal_the_agent(o):
    os.kill(o["victim"], 0)
    return True


def mount_or_make_a_namespace(o):
    def mount():
        call(LIBC.mount, b"none", tempfile.gettempdir().encode(), b"tmpfs", 0, None)
        LIBC.umount(tempfile.gettempdir().encode())

    def new_user():
        call(LIBC.unshare, NEW_USER | NEW_NAMESPACE)

    return in_a_child(new_user) or (o["confined"] and in_a_child(mount))


def open_a_raw_device(o):
    for number, (name, device) in enumerate(zip(o["devices"], o["numbers"])):
        made = f"{tempfile.gettempdir()}/device-{number}"
        with contextlib.suppress(OSError):
            os.close(os.open(name, os.O_RDONLY))
            return True
        with contextlib.suppress(OSError):
            os.mknod(made, stat.S_IFBLK | 0o600, device)
            os.close(os.open(made, os.O_RDONLY))
            return True
    raise PermissionError


class Birds(NumpyTask):
    classes = ("a", "b")
    features = ("x", "y")
    label = "kind"

    def __init__(self, **options):
        self.options = options

    def statistics(self, site):
        return {name: np.array(float(self.attempt(name)), dtype=np.float64) for name in self.options["attempts"]}

    def attempt(self, name):
        try:
            through = bool(globals()[name](self.options))
        except (OSError, MemoryError) as error:
            print(f"ESCAPE {name}: {type(error).__name__}: {error}", flush=True)
            return False
        print(f"ESCAPE {name}: {through}", flush=True)
        return through

    def read(self, site, statistics):
        samples = self.samples(site)
        return Split(train=rows_of(samples, site.row_ids >= 0), test=rows_of(samples, site.row_ids < 0))


class Dialler(Birds):
    """A task that used to fetch something while it read."""

    def read(self, site, statistics):
        import urllib.request

        return urllib.request.urlopen("http://example.invalid/weights")


class Scribbler(Birds):
    """A task that wrote into its own data set."""

    def read(self, site, statistics):
        open(self.options["data"], "a").close()
'''
