"""The rules of the house that a linter does not know: held by reading the source."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import archipel

SOURCE = Path(archipel.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNPACKERS = {"extractall", "unpack_archive", "read_pickle", "set_allow_pickle"}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _where(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=_where)
def test_a_file_says_what_it_is_and_ends_before_line_500(path: Path) -> None:
    assert ast.get_docstring(_tree(path)), "no module docstring"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", MODULES, ids=_where)
def test_no_global_statement_no_pickle_and_no_archive_unpacked_unchecked(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        assert not isinstance(node, ast.Global), f"line {node.lineno}: global"
        if isinstance(node, ast.Import):
            assert not PICKLES & {alias.name.split(".")[0] for alias in node.names}, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in PICKLES, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name != "torch.load", f"line {node.lineno}: torch.load unpickles"
            assert name.rpartition(".")[2] not in UNPACKERS, f"line {node.lineno}: {name} believes an archive's names"
            keywords = {keyword.arg for keyword in node.keywords}
            assert "allow_pickle" not in keywords, f"line {node.lineno}: allow_pickle"


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    short = sum(length <= 35 for length in lengths) / len(lengths)
    long = sum(length > 60 for length in lengths) / len(lengths)
    assert short >= 0.90, f"only {short:.1%} of functions are at most 35 lines long"
    assert long <= 0.02, f"{long:.1%} of functions are longer than 60 lines"


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "misc", "base_impl", "legacy", "compat"])
def test_nothing_is_named_after_having_no_place(name: str) -> None:
    assert [_where(path) for path in MODULES if name in {path.stem, path.parent.name}] == []


PACKAGES = [f"archipel.{info.name}" for info in pkgutil.iter_modules([str(SOURCE)]) if info.ispkg]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_room_lists_what_is_public(name: str) -> None:
    room = importlib.import_module(name)
    if not hasattr(room, "__all__"):
        modules = {info.name for info in pkgutil.iter_modules(room.__path__)}
        visible = {item for item in vars(room) if not item.startswith("_")} - modules - {"annotations"}
        assert visible == set(), f"{name} shows names without listing them"
        return
    assert sorted(room.__all__, key=str) == sorted(set(room.__all__))
    missing = [item for item in room.__all__ if not hasattr(room, item)]
    assert missing == []
