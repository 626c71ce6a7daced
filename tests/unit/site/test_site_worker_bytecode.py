"""Bytecode is looked at as Python looks at it: of this very source, or none."""

from __future__ import annotations

import os
import py_compile
import sys
from pathlib import Path

import pytest

from archipel.site.worker.bytecode import _is_compiled, _is_of


def test_bytecode_is_a_sources_until_the_source_changes(tmp_path: Path) -> None:
    source = tmp_path / "birds.py"
    source.write_text("x = 1\n")
    compiled = Path(py_compile.compile(str(source), doraise=True) or "")
    assert _is_of(compiled, source)
    source.write_text("x = 22\n")
    assert not _is_of(compiled, source)
    compiled.write_bytes(b"half")
    assert not _is_of(compiled, source)
    assert not _is_of(tmp_path / "none.pyc", source)


def test_what_cannot_be_compiled_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "terns.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert not _is_compiled("terns")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert _is_compiled("terns")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert _is_compiled("terns")
    assert _is_compiled("no_such_module")
