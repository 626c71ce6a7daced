"""What a replay reads: who took part in each round, and whose rows the run stood on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archipel.cli.simulating import Recorded, read_participation
from archipel.spec import ArchipelError, DataError, SpecError

COHORTS = [["north", "south"], ["north"]]
LINEAGE = {"datasets": {"north": "sha256:0", "south": "sha256:1"}, "participation": COHORTS}
OLDER = {"lineage": {"datasets": {"west": "sha256:2"}, "participation": [["west"]]}}
FORMS = [
    ("a list", COHORTS, ()),
    ("what simulate --json printed", {"participation": COHORTS, "sites": {"north": 24}}, ()),
    ("a lineage", LINEAGE, ("north", "south")),
    ("a model", {"name": "birds", "lineage": LINEAGE}, ("north", "south")),
    ("what models --json printed: the newest", {"models": [{"lineage": LINEAGE}, OLDER]}, ("north", "south")),
]
FAULTS = [
    ("[[", "is not JSON"),
    ("{}", "holds no participation"),
    ('{"models": []}', "holds no participation"),
    ('["north"]', "holds no participation"),
]


@pytest.mark.parametrize(("form", "document", "sites"), FORMS, ids=[form for form, _, _ in FORMS])
def test_participation_is_read_from(tmp_path: Path, form: str, document: Any, sites: tuple[str, ...]) -> None:
    path = tmp_path / "made.json"
    path.write_text(json.dumps(document))
    assert read_participation(path) == Recorded(cohorts=(("north", "south"), ("north",)), sites=sites), form


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_file_without_participation_is_refused_with_the_next_step(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "made.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_participation(path)
    assert caught.value.hint
    with pytest.raises(ArchipelError, match="no file"):
        read_participation(tmp_path / "nowhere.json")


def test_only_the_rows_of_sites_that_were_in_the_run_count(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("north", "south", "west")}
    assert set(Recorded(cohorts=(), sites=("north", "south")).of(folders)) == {"north", "south"}
    assert Recorded(cohorts=()).of(folders) == folders, "a record that does not say leaves nobody out"
    with pytest.raises(DataError, match="no data here of east") as caught:
        Recorded(cohorts=(), sites=("east", "north")).of(folders)
    assert caught.value.hint
