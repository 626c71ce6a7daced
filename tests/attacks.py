"""Attacks are tests with a mark; this plugin makes one table of them, of what was run and nothing else.

    @pytest.mark.attack("hostile control", "a secure sum: {move.reason.value}", open="Control is the authority.")

The mark names the party of docs/concepts/threat-model.md, what it tries (fields in braces are the test's parameters, so
that one test fills several rows), and what an attack that fails comes to: blocked, detected or survived. A test whose
result is "open" shows an attack that works. `open` is a sentence about what is left; it must stand in docs/concepts, or
the test fails: nothing stays open that nobody was told of. A test that tries several things at once says how many by
`record_property("tries", 15)`, and by `record_property("open", 1)` how many of them get through, as told.

    python -m pytest -m attack --attacks rows.json      # prints the table, writes {party, name, tries, result, ...}
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

CONCEPTS = Path(__file__).parents[1] / "docs/concepts"
PARTIES = (
    "curious control",
    "hostile control",
    "hostile site",
    "task code",
    "network",
    "thief",
    "insider",
    "former operator",
    "crash",
)
"""Those of the threat model, in its order; code is nobody's there, and so is a crash."""
Result = Literal["blocked", "detected", "survived", "open"]
NOT_HELD = "NOT HELD"


@dataclass(frozen=True)
class Attack:
    """What a mark says."""

    party: str
    name: str
    result: Result = "blocked"
    open: str = ""
    """A sentence of docs/concepts about what is left."""

    def __post_init__(self) -> None:
        if self.party not in PARTIES or self.result not in {"blocked", "detected", "survived", "open"}:
            raise ValueError(f"{self.party!r}, {self.result!r}: a party of the threat model, and a result")
        if self.result == "open" and not self.open:
            raise ValueError(f"{self.name}: what is open is said in a sentence")


@dataclass
class Row:
    """One line of the table: all tests with the same party and name."""

    party: str
    name: str
    result: str
    stays_open: str
    tries: int = 0
    open: int = 0
    """How many of the tries get through, as the documents say."""
    tests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def told(self) -> str:
        """The result, in words."""
        if self.failed:
            return NOT_HELD
        if not self.tries:
            return "not tried"
        if self.open == self.tries:
            return "open"
        return (
            f"{self.tries - self.open} {self.result}, {self.open} open" if 0 < self.open < self.tries else self.result
        )

    @property
    def holds(self) -> bool:
        """Whether it was tried and came out as the mark and the documents say."""
        return self.told not in {NOT_HELD, "not tried"}


@dataclass
class Table:
    """Rows by what is tried, those of a party together."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, attack: Attack, test: str, outcome: str, tries: int = 1, through: int = 0) -> None:
        """Take in how one test ended: passed, failed or skipped."""
        row = self.rows.setdefault(
            (attack.party, attack.name), Row(attack.party, attack.name, attack.result, attack.open)
        )
        if outcome == "skipped":
            return
        row.tests.append(test)
        row.tries += tries
        row.open += tries if attack.result == "open" else through
        if outcome == "failed" or (through and not attack.open):
            row.failed.append(test)

    def sorted(self) -> list[Row]:
        """Return the rows as they are shown."""
        return sorted(self.rows.values(), key=lambda row: (PARTIES.index(row.party), row.name))

    def lines(self) -> Iterable[str]:
        """Yield the table in Markdown."""
        yield "| who | tries to | tries | result | what stays open |"
        yield "|---|---|---|---|---|"
        for row in self.sorted():
            page = f" ({page_of(row.stays_open)})" if row.stays_open else ""
            yield f"| {row.party} | {row.name} | {row.tries} | {row.told} | {row.stays_open}{page} |"


@functools.cache
def pages() -> dict[str, str]:
    """Return the text of each page of docs/concepts, without marks and line breaks."""
    return {path.name: _plain(path.read_text(encoding="utf-8")) for path in sorted(CONCEPTS.glob("*.md"))}


def page_of(sentence: str) -> str | None:
    """Return the page of docs/concepts in which a sentence stands."""
    return next((name for name, text in pages().items() if _plain(sentence) in text), None)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "").replace("`", "")).strip()


def attack_of(item: pytest.Item) -> Attack | None:
    """Return what an item's mark says, its name filled in with the item's parameters."""
    mark = item.get_closest_marker("attack")
    if mark is None:
        return None
    attack = Attack(*mark.args, **mark.kwargs)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return Attack(attack.party, attack.name.format(**parameters), attack.result, attack.open)


# ---- pytest -----------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --attacks."""
    parser.addoption(
        "--attacks", metavar="FILE", type=Path, help="print the table of attacks, and write its rows there"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark; collect only where a table is asked for."""
    config.addinivalue_line("markers", "attack(party, name, result='blocked', open=''): an attack, for the table")
    if (path := config.getoption("--attacks")) is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send what a mark says along with an item's report."""
    for item in items:
        if (attack := attack_of(item)) is not None:
            item.user_properties.append(("attack", asdict(attack)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail an attack whose open end nobody was told of."""
    attack = attack_of(item)
    if attack is not None and attack.open and page_of(attack.open) is None:
        pytest.fail(f"stands in no page of docs/concepts: {attack.open!r}")


class Collector:
    """Fills a table from reports, which with xdist come from other processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = Table()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a test's end, or what kept it from beginning."""
        said: dict[str, Any] = dict(report.user_properties)
        if "attack" in said and (report.when == "call" or report.outcome != "passed"):
            through = said.get("open", 0)
            self._table.add(Attack(**said["attack"]), report.nodeid, report.outcome, said.get("tries", 1), through)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.write_line("")
        for line in self._table.lines():
            terminalreporter.write_line(line)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the rows; a row that was not tried is no success."""
        rows = self._table.sorted()
        written = [{**asdict(row), "result": row.told, "holds": row.holds} for row in rows]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        if session.exitstatus == 0 and not all(row.holds for row in rows):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
