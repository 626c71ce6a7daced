"""The split is the same at every site whatever is quarantined, and labels are counted as the classes are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from archipel.data.site_data import SiteData
from archipel.simulation.pooled import pool
from archipel.spec import read_job
from archipel.tasks.load import load_object, load_task

EXAMPLE = Path(__file__).parents[3] / "examples" / "islands"
JOB = read_job(EXAMPLE / "job.toml")


def site(row_ids: list[int], species: list[str]) -> SiteData:
    rows = np.array(row_ids, dtype=np.int64)
    columns: dict[str, Any] = {name: rows.astype(np.float64) for name in JOB.data.contract.columns if name != "species"}
    return SiteData(site="biscoe", path=Path(), columns=columns | {"species": np.array(species)}, row_ids=rows)


def task() -> Any:
    return load_task(EXAMPLE, JOB.task.code, JOB.task.options)


def test_three_rows_of_ten_are_held_out_by_their_place_in_the_file() -> None:
    split = task().read(site(list(range(20)), ["Adelie"] * 20), {})
    assert split.test["body_mass_g"].tolist() == [0, 1, 2, 10, 11, 12]
    assert len(split.train["body_mass_g"]) == 14


def test_a_quarantined_row_moves_no_other_row_across_the_split() -> None:
    whole = task().read(site([0, 1, 2, 3, 4], ["Adelie"] * 5), {})
    without = task().read(site([0, 2, 3, 4], ["Adelie"] * 4), {})
    assert whole.test["body_mass_g"].tolist() == [0, 1, 2]
    assert without.test["body_mass_g"].tolist() == [0, 2]
    assert whole.train["body_mass_g"].tolist() == without.train["body_mass_g"].tolist() == [3, 4]


def test_species_become_numbers_in_the_order_of_the_classes() -> None:
    split = task().read(site([3, 4, 5], ["Gentoo", "Adelie", "Chinstrap"]), {})
    assert split.train["species"].tolist() == [2, 0, 1]


def test_statistics_are_of_training_rows_only() -> None:
    sums = task().statistics(site([0, 3, 5], ["Adelie"] * 3))
    assert sums["features.count"].tolist() == [2, 2, 2, 2]
    assert sums["features.sum"].tolist() == [8, 8, 8, 8]
    assert sums["features.square"].tolist() == [34, 34, 34, 34]


def test_the_contract_names_what_the_task_reads_and_its_classes() -> None:
    contract = JOB.data.contract
    assert set(contract.columns) == {*task().features, task().label}
    assert contract.columns["species"].values == tuple(task().classes)


def test_the_pooled_reference_keeps_every_row_on_its_side_of_the_split() -> None:
    parts = {"biscoe": site([0, 3, 12], ["Gentoo"] * 3), "dream": site([1, 4], ["Adelie"] * 2)}
    split = task().read(pool(parts), {})
    assert split.test["body_mass_g"].tolist() == [0, 12, 1]
    assert split.train["species"].tolist() == [2, 0]


def test_the_reference_scores_everyone_and_each_island(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lines = ["species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g"]
    for number in range(60):
        kind, island, mass = [("Adelie", "Dream", 3500), ("Gentoo", "Biscoe", 5500)][number % 2]
        bill, flipper = 38 + 10 * (mass > 5000) + rng.random(), 190 + 30 * (mass > 5000)
        lines.append(f"{kind},{island},{bill:.1f},18,{flipper},{mass + 10 * (number % 7)}")
    (tmp_path / "penguins.csv").write_text("\n".join(lines), encoding="utf-8")
    scores = load_object(EXAMPLE, "reference.py", "reference")(
        replace(JOB, federation=replace(JOB.federation, seed=7)), tmp_path
    )
    assert scores["everyone"]["accuracy"] == pytest.approx(1.0)
    assert scores["everyone"]["examples"] == 18
    assert {name: one["own"]["examples"] for name, one in scores["sites"].items()} == {"dream": 9, "biscoe": 9}
