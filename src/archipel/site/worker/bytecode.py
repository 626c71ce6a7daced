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
_LATER = {"torch": ("archipel.tasks.torch.onnx_file", "torch.export", "torch.onnx", "onnxscript")}
"""What a framework's adapter imports only when it exports a model."""


async def compile_once(framework: str) -> None:
    """Import the worker and a framework's adapter in a process that ends at once, unless both are compiled."""
    adapter = f"archipel.tasks.{framework}.adapter"
    if all(_is_compiled(name) for name in (_WORKER, adapter, framework)):
        return
    words = f"import {_WORKER}, {adapter}" + "".join(f", {name}" for name in _LATER.get(framework, ()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", words, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


def _is_compiled(module: str) -> bool:
    """Is it, or can it not be? Nothing is imported to find out: a framework has no place in an agent."""
    top, *rest = module.split(".")
    try:
        found = importlib.util.find_spec(top)
    except ImportError:
        return True
    if found is None or found.origin is None or not found.has_location:
        return True
    source = Path(found.origin)
    source = source.parent.joinpath(*rest).with_suffix(".py") if rest else source
    may_be_written = not sys.dont_write_bytecode and source.exists() and os.access(source.parent, os.W_OK)
    return not may_be_written or _is_of(Path(importlib.util.cache_from_source(str(source))), source)


def _is_of(compiled: Path, source: Path) -> bool:
    """Would Python take `compiled` for `source`? Its header is magic number, flags, and the source's time and size."""
    if not compiled.exists():
        return False
    with compiled.open("rb") as file:
        magic, flags, moment, size = struct.unpack("<4sIII", file.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0"))
    known = source.stat()
    is_same = (moment, size) == (int(known.st_mtime) & 0xFFFFFFFF, known.st_size & 0xFFFFFFFF)
    return magic == importlib.util.MAGIC_NUMBER and (flags != 0 or is_same)
