"""Landlock: the kernel refuses this process, for good, every file and folder that no rule names.

Rules go by what a path leads to when it is opened here; what lies below a folder belongs to it. From version 4 on, TCP
is refused as well; from version 6 on, abstract sockets and signals to anyone outside. Linux 5.13 or newer;
https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from archipel.site.sandbox.kernel import syscall
from archipel.site.sandbox.terms import Confinement

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_BITS_OF_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Kinds of access to files that each version knows; later ones as version 5."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = _READ_FILE | _WRITE_FILE | _TRUNCATE
_DEVICE = _WRITE | _IOCTL_DEV | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE | _IOCTL_DEV
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def version() -> int:
    """Return the version of Landlock in this kernel; 0 where there is none."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict(confinement: Confinement) -> None:
    """Leave this process (this thread and what it starts) only the files that `confinement` names.

    Raises:
        OSError: the kernel does not have the version that the confinement counts on.
    """
    known = (1 << _BITS_OF_VERSION[min(confinement.landlock, max(_BITS_OF_VERSION))]) - 1
    attributes = [known]
    attributes += [0b11] if confinement.landlock >= _NETWORK_SINCE else []
    attributes += [0b11] if confinement.landlock >= _SCOPES_SINCE else []
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = syscall(_CREATE_RULESET, ctypes.c_char_p(packed), len(packed), 0)
    try:
        _allow(ruleset, confinement.read, _READ & known)
        _allow(ruleset, confinement.write, _WRITE & known)
        _allow(ruleset, confinement.own, known & ~(_MAKE_CHAR | _MAKE_BLOCK))
        _allow(ruleset, (*_DEVICES, *confinement.devices), _DEVICE & known)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        if not Path(path).exists():
            continue
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
            rule = struct.pack("=Qi", rights if is_folder else rights & _OF_FILES, place)
            syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
        finally:
            os.close(place)
