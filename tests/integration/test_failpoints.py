"""Kill the control plane at every named point of its code: each run ends with the bytes of an undisturbed one.

Starting a control plane costs more than what it is started for, so that a run is killed at several points, one after
another; points that follow each other in the code are in different runs.

Names are read from the source: a failpoint that no table names fails the first test here. Those of sites are killed
at in test_site_crashes.py and test_site_join.py, which also read their names from the source.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import archipel
from archipel.spec import decode
from archipel.spec.views import ModelsPage
from integration.test_control_runs import attended
from unit.control.control_plane import Plane, make_bundle, make_job
from unit.security.test_security_sealing_keyring import FAILPOINTS as REKEY

SOURCE = Path(archipel.__file__).parent

CONTROL = (
    "control.bundle.after_artefact",
    "control.enrol.after_commit",
    "control.finish.after_artefact",
    "control.finish.after_register",
    "control.fold.after_artefact",
    "control.fold.after_journal",
    "control.fold.after_write",
    "control.journal.after_commit",
    "control.journal.before_commit",
    "control.round.after_drop",
    "control.start.after_commit",
    "control.submit.after_commit",
    "control.update.after_journal",
    "control.update.before_journal",
    "federated.fold.before_adopt",
    "spool.receive.after_fsync",
    "spool.receive.before_fsync",
)
"""Points the control plane passes; `site.*` are passed by sites."""
LEGS = (
    "control.leg.advertise",
    "control.leg.compute",
    "control.leg.consent",
    "control.leg.mask",
    "control.leg.release",
    "control.leg.share",
)
"""Points passed under secure aggregation only: test_secagg_kills.py kills there."""
RUNS = 3


def parsed(path: Path) -> ast.Module:
    """Parse a file. CPython 3.11 counts a tree's depth for all threads together, and fails where another parses too."""
    for _ in range(9):
        with contextlib.suppress(SystemError):
            return ast.parse(path.read_text(encoding="utf-8"))
    return ast.parse(path.read_text(encoding="utf-8"))


def names_in_source() -> set[str]:
    names = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path}: the name of a failpoint is written out"
                names.add(node.args[0].value)
    return names


def test_every_failpoint_has_a_test() -> None:
    names = names_in_source()
    assert {name for name in names if not name.startswith("site.")} == {*CONTROL, *LEGS, *REKEY}


async def outcome_of(folder: Path, failpoints: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """Run the job while the control plane dies once at each of `failpoints`; return what came out and the deaths."""
    environment = {"ARCHIPEL_FAILPOINT": f"{','.join(failpoints)}@{folder / 'died'}"} if failpoints else {}
    job = make_job(
        federation={"rounds": 3, "min_sites": 3, "algorithm": "scaffold"},
        evaluation={"alone": True, "cross": True, "personalise_epochs": 1, "every": 2},
    )
    async with Plane(folder / "state", environment) as plane, attended(plane, folder) as sites:
        run = await plane.start(job, make_bundle(folder / "job"))
        await plane.until(run, "finished")
        report = await plane.report(run)
        [model] = decode((await plane.insist("GET", "/v1/models")).content, ModelsPage).models
        for site in sites:
            await site.until(lambda site=site: "birds" in site.serving)
        weights = (await plane.insist("GET", "/v1/models/birds/1/weights")).content
        await plane.end()
    found = {
        "weights": weights,
        "onnx": model.onnx,
        "metrics": model.metrics,
        "lineage": model.lineage,
        "overall": report.overall,
        "sites": report.sites,
        "losses": report.losses,
        "disclosures": report.disclosures,
        "journal": journal_of(folder / "state"),
        "spool": sorted(path.name for path in (folder / "state" / "spool").glob("??/*")),
        "artefacts": sorted(path.name for path in (folder / "state" / "artefacts").rglob("*") if path.is_file()),
    }
    return found, plane.deaths


def journal_of(state: Path) -> list[tuple[int, str]]:
    """Return which updates were counted."""
    with sqlite3.connect(state / "control.db") as connection:
        question = "SELECT round, site FROM run_events WHERE site IS NOT NULL ORDER BY round, site"
        return list(connection.execute(question))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found, deaths = asyncio.run(outcome_of(tmp_path_factory.mktemp("undisturbed"), ()))
    assert deaths == 0
    return found


@pytest.mark.parametrize("names", [CONTROL[first::RUNS] for first in range(RUNS)], ids=", ".join)
async def test_killed_there_control_goes_on_and_the_run_ends_alike(
    names: tuple[str, ...], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    found, deaths = await outcome_of(tmp_path, names)
    died = (tmp_path / "died").read_text().split()
    assert sorted(died) == sorted(names), "control never passed a failpoint"
    assert deaths == len(names)
    assert found == undisturbed, f"after it died at {', '.join(died)}"
