"""Bytecode: compiled once, outside of the sandbox, where a worker finds it and can write none itself.

A confined worker cannot write the .pyc files of the libraries it imports. Where an installer has left none, each of
them would be compiled anew by every worker: a framework takes 10 s that way.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import struct
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

_HEADER_BYTES = 16
_WORKER = "archipel.site.worker.__main__"


async def compile_once(framework: str) -> None:
    """Import the worker and a framework's adapter in a process that ends at once, unless both are compiled."""
    adapter = f"archipel.tasks.{framework}.adapter"
    if all(_is_compiled(name) for name in (_WORKER, adapter, framework)):
        return
    words = f"import {_WORKER}, {adapter}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", words, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


def _is_compiled(module: str) -> bool:
    """Is it, or can it not be?"""
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        return True
    if found is None or found.cached is None or found.origin is None:
        return True
    may_be_written = not sys.dont_write_bytecode and os.access(Path(found.origin).parent, os.W_OK)
    if not may_be_written:
        return True
    return _is_of(Path(found.cached), Path(found.origin))


def _is_of(compiled: Path, source: Path) -> bool:
    """Would Python take `compiled` for `source`? Its header is magic number, flags, and the source's time and size."""
    if not compiled.exists():
        return False
    with compiled.open("rb") as file:
        magic, flags, moment, size = struct.unpack("<4sIII", file.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0"))
    known = source.stat()
    is_same = (moment, size) == (int(known.st_mtime) & 0xFFFFFFFF, known.st_size & 0xFFFFFFFF)
    return magic == importlib.util.MAGIC_NUMBER and (flags != 0 or is_same)
