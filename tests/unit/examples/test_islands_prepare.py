"""One folder an island, rows in the order of the source, and errors that say what to install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archipel.data.dataset import open_dataset
from archipel.spec import DataError, read_job
from archipel.tasks.load import load_object

EXAMPLE = Path(__file__).parents[3] / "examples" / "islands"
prepare: Any = load_object(EXAMPLE, "prepare.py", "prepare")
find_file: Any = load_object(EXAMPLE, "prepare.py", "find_file")

SOURCE = """\
species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year
Adelie,Torgersen,39.1,18.7,181,3750,male,2007
Gentoo,Biscoe,50,16.3,230,5700,NA,2007
Adelie,Torgersen,NA,NA,NA,NA,NA,2007
Adelie,Torgersen,40.3,18,195,3250,female,2007
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "penguins.csv").write_text(SOURCE, encoding="utf-8")
    return folder


def test_each_island_gets_its_own_rows_in_order(source: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "sites", source)
    header, *rows = SOURCE.splitlines()
    assert sorted(path.name for path in (tmp_path / "sites").iterdir()) == ["biscoe", "torgersen"]
    assert (tmp_path / "sites/biscoe/penguins.csv").read_text().splitlines() == [header, rows[1]]
    assert (tmp_path / "sites/torgersen/penguins.csv").read_text().splitlines() == [header, rows[0], rows[2], rows[3]]


def test_a_penguin_that_was_never_measured_is_set_aside_and_counted(source: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "sites", source)
    contract = read_job(EXAMPLE / "job.toml").data.contract
    lenient = type(contract)(columns=contract.columns, label=contract.label, max_quarantined=0.5)
    data, manifest = open_dataset("torgersen", "penguins", tmp_path / "sites" / "torgersen", lenient)
    assert data.row_ids.tolist() == [0, 2]
    assert manifest.quarantined == {"bill_length_mm: missing": 1}
    assert manifest.labels == {"Adelie": 2}


def test_a_folder_without_penguins_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no penguins\.csv in") as caught:
        find_file(tmp_path)
    assert "--data" in caught.value.hint


def test_a_missing_package_is_told_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(find_file.__globals__, "find_spec", lambda _name: None)
    with pytest.raises(DataError) as caught:
        find_file(None)
    assert caught.value.hint == "pip install --no-deps palmerpenguins"
