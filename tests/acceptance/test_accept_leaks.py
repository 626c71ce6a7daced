"""No row leaves a site: marker rows are planted, and everything control received, stored or logged is searched.

The search must be able to fail: a task that leaks rows in a statistic is run too, and must be caught.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from acceptance.workspace import JOB, TASK, Workspace

TAP = Path(__file__).parent / "tap"
NUMBERS = (631.7280913, 637.9431127, 22.61803398)
WORDS = "patient-zero-4711"
MARKERS = f"auk,{NUMBERS[0]},{NUMBERS[2]},{WORDS}\n" * 2 + f"tern,{NUMBERS[1]},{NUMBERS[2]},{WORDS}\n" * 2


def forms_of_markers() -> Iterator[tuple[str, bytes]]:
    """Every way a marker may be written: as text, as floats of either width, as base64 of its text."""
    yield "the words", WORDS.encode()
    # Base64 shifts with the position: the part that does not depend on its neighbours, at each of three.
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + WORDS.encode())
        yield "the words in base64", coded[4 * (shift > 0) : -4]
    for number in NUMBERS:
        yield f"{number} as text", repr(number)[:9].encode()
        yield f"{number} as float64", struct.pack("<d", number)
        yield f"{number} as float32", struct.pack("<f", number)
        yield f"{number} as big-endian float64", struct.pack(">d", number)


def find_markers(places: dict[str, bytes]) -> list[str]:
    """Return each marker that is found, and where."""
    return [f"{what} in {name}" for name, data in places.items() for what, form in forms_of_markers() if form in data]


def run_with_markers(workspace: Workspace, task: str, code: int = 0) -> dict[str, bytes]:
    """Run the job with marker rows at one site, and return all that is outside the sites: name → bytes."""
    tap = workspace.folder / "tap"
    workspace.extra = {"PYTHONPATH": str(TAP), "ARCHIPEL_TAP": str(tap)}
    workspace.job(JOB, task)
    workspace.birds("north", extra=MARKERS)
    workspace.birds("south")
    said = workspace.run(code=code)
    workspace.cli("stop")
    fleet = workspace.fleet()
    places = {"the screen": said.encode(), "what control received": tap.read_bytes()}
    outside = [*(fleet / "control").rglob("*"), *(fleet / "logs").rglob("*"), *fleet.glob("report.*")]
    places |= {str(path.relative_to(fleet)): path.read_bytes() for path in outside if path.is_file()}
    return places


def test_the_search_knows_a_marker_in_every_form() -> None:
    row = struct.pack("<3d", *NUMBERS)
    for name, data in {
        "json": f'{{"weight": {NUMBERS[0]}}}'.encode(),
        "float64": b"..." + row,
        "float32": struct.pack("<f", NUMBERS[1]),
        "words": b"note=" + WORDS.encode(),
        "base64": base64.b64encode(b"ab" + WORDS.encode()),
    }.items():
        assert find_markers({name: data}), name
    assert find_markers({"nothing": b"\x00" * 999 + b"patient-0"}) == []


@pytest.mark.attack("curious control", "find a planted row in what it receives, stores and logs")
def test_no_marker_row_is_in_anything_outside_its_site(workspace: Workspace) -> None:
    places = run_with_markers(workspace, TASK)
    assert len(places["what control received"]) > 10_000, "the recorder heard nothing"
    assert b"update/1" in places["what control received"]
    assert "control/control.db" in places
    assert find_markers(places) == []
    # The markers were really used: the site held them, and they passed the contract.
    held = (workspace.folder / "data" / "north" / "birds.csv").read_bytes()
    assert find_markers({"north": held})
    assert {site["name"]: site["rows"] for site in workspace.report()["sites"]} == {"north": 28, "south": 24}


@dataclass(frozen=True)
class Leak:
    """A task that gives rows away."""

    name: str
    task: str


IN_SUMS = (
    TASK
    + """
    def statistics(self, site):
        sums = super().statistics(site)
        return {**sums, "innocent": site.columns["weight"][-4:]}
"""
)
LEAKS = [Leak("a column sent as a statistic", IN_SUMS)]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
@pytest.mark.attack(
    "task code",
    "leak: {leak.name}",
    result="open",
    open="A task that is written to leak can write rows into the update, into sums",
)
def test_a_leaking_task_is_caught(workspace: Workspace, leak: Leak) -> None:
    found = find_markers(run_with_markers(workspace, leak.task))
    assert any("what control received" in place for place in found), "a leak went unseen"


@pytest.mark.attack(
    "curious control",
    "read rows in the text of an exception",
    open="can write rows into the update, into sums, or into the class name of an exception",
)
def test_what_a_failing_task_says_of_a_row_stays_at_its_site(workspace: Workspace) -> None:
    task = TASK.replace("samples = self", "raise ValueError(str(site.columns['note'][-1]))\n        samples = self")
    places = run_with_markers(workspace, task, code=1)
    logs = {name: data for name, data in places.items() if name.startswith("logs/north")}
    elsewhere = {name: data for name, data in places.items() if name not in logs}
    assert find_markers(logs), "the site's own log helps whoever mends the task"
    assert find_markers(elsewhere) == []
