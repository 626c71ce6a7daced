"""The reference pages, the glossary and the decisions name what is in the code, and all of it."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from archipel.control.settings import Settings
from archipel.federated import algorithms
from archipel.site.link import protocol
from archipel.spec import encode, errors, wire

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def table(page: str, first: str = "") -> list[list[str]]:
    """Cells of the tables of a page, rows whose first cell matches `first`."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines if line[:2] == "| "]
    return [row for row in rows if re.search(first, row[0])]


def name(cell: str) -> str:
    """The name between backticks."""
    return cell.split("`")[1]


def error_classes() -> dict[str, type[errors.ArchipelError]]:
    kinds = vars(errors).values()
    return {kind.__name__: kind for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.ArchipelError)}


def test_every_error_is_on_its_page_with_its_parent_and_exit_code() -> None:
    written = {name(row[0]): (row[1].strip("`"), int(row[2])) for row in table("reference/errors.md", "Error")}
    real = {key: (kind.__base__.__name__, kind.exit_code) for key, kind in error_classes().items()}
    assert written == real | {"ArchipelError": ("-", 1)}


def test_every_error_says_what_to_do() -> None:
    for row in table("reference/errors.md", "Error"):
        assert len(row) == 5, row
        assert all(row[3:])


def test_every_exit_code_names_the_errors_that_end_with_it() -> None:
    written = {
        int(row[0]): set(re.findall(r"`(\w+Error)`", row[1])) for row in table("reference/exit-codes.md", r"^\d")
    }
    for key, kind in error_classes().items():
        if key != "ArchipelError":
            assert key in written[kind.exit_code]
    assert {0, 1, 70, 130} <= set(written)


def test_every_algorithm_is_on_its_page_with_the_paper_of_its_docstring_and_its_options() -> None:
    written = {name(row[0]): row for row in table("reference/algorithms.md", "^`")}
    assert set(written) == set(algorithms.BUILT_IN)
    for key, kind in algorithms.BUILT_IN.items():
        module = importlib.import_module(kind.__module__)
        assert set(re.findall(r"arXiv:(\d+\.\d+)", module.__doc__ or "")) <= set(
            re.findall(r"arXiv:([\d.]+)\]", written[key][1])
        )
        options = {field.name: f"{field.default:g}" for field in msgspec.structs.fields(module.Options)}
        found = {key: f"{float(value):g}" for key, value in re.findall(r"`(\w+)` \(([\d.]+)\)", written[key][2])}
        assert found == options


def test_every_setting_of_a_control_plane_is_on_its_page_with_its_default() -> None:
    rows = table("reference/configuration.md", "^`[a-z]")
    written = {name(row[0]): row[1] for row in rows}
    for field in msgspec.structs.fields(Settings):
        default = "**required**"
        if field.default is not msgspec.NODEFAULT:
            default = "none" if field.default is None else f"`{encode(field.default).decode()}`"
        elif field.default_factory is not msgspec.NODEFAULT:
            default = f"`{encode(field.default_factory()).decode()}`"
        assert written.pop(field.name) == default
    assert not written


def test_every_environment_variable_of_the_code_is_on_its_page() -> None:
    used = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= set(re.findall(r"^ARCHIPEL_[A-Z_]+$", node.value))
    page = (DOCS / "reference/configuration.md").read_text(encoding="utf-8")
    assert used == set(re.findall(r"`(ARCHIPEL_[A-Z_]+)`", page))


def test_every_constant_on_the_configuration_page_has_the_value_of_the_code() -> None:
    from archipel.control.services.accounts import doorkeeper, issuer, logins
    from archipel.control.services.sites import notes
    from archipel.security import authority, tokens

    places: tuple[ModuleType, ...] = (wire, tokens, authority, notes, logins, doorkeeper, issuer)
    rows = table("reference/configuration.md", "^`[A-Z]+_[A-Z_]+`$")
    assert any(row[1] and not name(row[0]).startswith("ARCHIPEL") for row in rows)
    for row in rows:
        key = name(row[0])
        if not row[1] or key.startswith("ARCHIPEL"):
            continue
        value = next(getattr(place, key) for place in places if hasattr(place, key))
        assert row[1] == (f"{value.total_seconds() / 3600:g} h" if hasattr(value, "total_seconds") else str(value))


def test_every_method_and_message_of_the_wire_is_on_its_page() -> None:
    page = (DOCS / "reference/protocol.md").read_text(encoding="utf-8")
    methods = {
        path.rpartition("/")[2] for path in vars(protocol).values() if str(path).startswith(f"/{protocol.SERVICE}/")
    }
    assert methods == {name(row[0]) for row in table("reference/protocol.md", r"^`[A-Z]\w+`$")}
    tags = {
        kind.__struct_config__.tag
        for place in (wire, protocol)
        for kind in vars(place).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == place.__name__
    }
    missing = {tag for tag in tags - {None} if f"{tag}" not in page}
    assert not missing


def test_the_page_on_roles_has_the_table_of_the_code() -> None:
    from archipel.security import access

    written = {
        name(row[0]): tuple(cell or "no" for cell in row[1:7]) for row in table("howto/accounts-and-roles.md", "`: ")
    }
    assert written == {right: tuple(rule.cells.split()) for right, rule in access.TABLE.items()}
    [head] = [row for row in table("howto/accounts-and-roles.md") if row[1:2] == ["viewer"]]
    assert tuple(head[1:7]) == access.ROLES


def test_every_address_of_the_rest_api_is_on_its_page() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src/archipel/control/api").glob("*.py"))
    routes = re.findall(r'@(get|post|put|patch|delete)\(\s*"([^"]+)"', source)
    real = {(method.upper(), re.sub(r":\w+}", "}", path)) for method, path in routes}
    assert real == {(row[0], name(row[1])) for row in table("reference/rest-api.md", "^(GET|POST|PUT|PATCH|DELETE)$")}


def test_every_word_of_the_glossary_is_in_the_code_and_in_order() -> None:
    rows = table("glossary.md")[1:]
    words = [row[0] for row in rows if not row[0].startswith("-")]
    assert words == sorted(words)
    for row in rows:
        if row[0].startswith("-"):
            continue
        path = name(row[2])
        try:
            importlib.import_module(path)
        except ModuleNotFoundError:
            module, _, attribute = path.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), path


def test_the_rooms_of_the_page_are_those_of_the_import_contract_in_its_order() -> None:
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:rooms"]["layers"].split("\n")
    listed = [part.strip() for line in layers for part in line.split("|") if part.strip()]
    rooms = [room for room in listed if not room.startswith("(") or (ROOT / "src/archipel" / room.strip("()")).is_dir()]
    assert [name(row[0]) for row in table("concepts/rooms.md", "^`")] == [room.strip("()") for room in rooms]


def test_every_room_of_the_package_is_on_the_page() -> None:
    folders = {item.name for item in (ROOT / "src/archipel").iterdir() if (item / "__init__.py").exists()}
    assert folders == {name(row[0]) for row in table("concepts/rooms.md", "^`")}


@pytest.mark.parametrize("record", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda path: path.stem)
def test_a_decision_says_why_what_what_not_and_what_follows(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    titles = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert titles == ["Why a decision", "What we do", "What we did not take", "What follows"]
    assert f"]({record.name})" in (record.parent / "README.md").read_text(encoding="utf-8")
