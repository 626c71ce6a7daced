"""A filter of system calls: what no task needs and every escape begins with ends in an error.

    socket                        EACCES: no network of any kind, whatever the network namespace holds
    clone with a new namespace    EPERM, like unshare and setns
    clone3                        ENOSYS: its flags lie in memory, where a filter cannot look; libraries then use clone
    the calls of _REFUSED         EPERM
    calls of another architecture EPERM

All else is allowed: the filter stands beside namespaces and file rules, it does not replace them. A classic BPF
program, https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Sequence

from archipel.site.sandbox.kernel import prctl, syscall

_PR_GET_SECCOMP = 21
_SET_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x40000000
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine → its number in the kernel's audit, and its column below."""
_SOCKET, _CLONE, _CLONE3, _SECCOMP = (41, 198), (56, 220), (435, 435), (317, 277)
_REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),  # opens files and sockets past every filter
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "setuid": (105, 146),  # the limit of processes counts by the user it began as
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
}


def is_available() -> bool:
    """Does this kernel filter system calls, and is there a filter for this machine?"""
    if platform.machine() not in _MACHINES:
        return False
    try:
        prctl(_PR_GET_SECCOMP)
    except OSError:
        return False
    return True


def program(machine: str) -> bytes:
    """Return the filter for a machine ("x86_64", "aarch64") as BPF instructions of 8 bytes."""
    architecture, column = _MACHINES[machine]
    refused = [numbers[column] for numbers in _REFUSED.values()]
    ends = {"allow": _ALLOW, **{name: _ERROR | getattr(errno, name) for name in ("EPERM", "EACCES", "ENOSYS")}}
    steps: list[tuple[int, int, str, str]] = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUAL, architecture, "", "EPERM"),
        (_LOAD, _NUMBER, "", ""),
        (_AT_LEAST, _X32, "EPERM", ""),
        (_EQUAL, _SOCKET[column], "EACCES", ""),
        (_EQUAL, _CLONE3[column], "ENOSYS", ""),
        *((_EQUAL, number, "EPERM", "") for number in refused),
        (_EQUAL, _CLONE[column], "", "allow"),
        (_LOAD, _FIRST_ARGUMENT, "", ""),
        (_ANY_BIT, _NEW_NAMESPACES, "EPERM", "allow"),
    ]
    return _assembled(steps, ends)


def _assembled(steps: Sequence[tuple[int, int, str, str]], ends: dict[str, int]) -> bytes:
    """Lay out steps (code, value, where to if so, where to if not; "": on) and, behind them, the ends by name."""
    places = {name: len(steps) + index for index, name in enumerate(ends)}
    code = bytearray()
    for at, (kind, value, yes, no) in enumerate(steps):
        jumps = [places[name] - at - 1 if name else 0 for name in (yes, no)]
        code += struct.pack("=HBBI", kind, *jumps, value)
    for verdict in ends.values():
        code += struct.pack("=HBBI", _RETURN, 0, 0, verdict)
    return bytes(code)


def install() -> None:
    """Filter the system calls of all threads of this process and of all it will start, for good.

    Raises:
        OSError: the kernel refuses; privileges must have been forgone before.
    """
    machine = platform.machine()
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    syscall(_SECCOMP[_MACHINES[machine][1]], _SET_FILTER, _ALL_THREADS, ctypes.c_char_p(header))
