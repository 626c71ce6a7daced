"""The task on invented flights: whole days held out, scaling that travels as statistics, one logit a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.data.site_data import SiteData
from archipel.spec import read_job
from archipel.tasks.load import load_object, load_task

pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights"
JOB = read_job(EXAMPLE / "job.toml")


def task() -> Any:
    return load_task(EXAMPLE, JOB.task.code, JOB.task.options)


def airline(days: list[int], outcomes: list[str]) -> SiteData:
    """January flights, distance 100 times the day."""
    count = len(days)
    columns: dict[str, Any] = {name: np.full(count, 1.0) for name in JOB.data.contract.columns}
    columns |= {name: np.full(count, 900) for name in ("sched_dep_time", "sched_arr_time")}
    columns |= {"origin": np.full(count, "JFK"), "month": np.ones(count, np.int64), "day": np.array(days)}
    columns |= {"distance": 100.0 * np.array(days), "outcome": np.array(outcomes)}
    return SiteData(site="xx", path=Path(), columns=columns, row_ids=np.arange(count))


def test_whole_days_are_held_out() -> None:
    # 5 January (day 4 from 0) is a test day, the 6th and 7th are not.
    split = task().read(airline([5, 6, 5, 7], ["late", "late", "on time", "on time"]), {})
    assert split.test["outcome"].tolist() == [1, 0]
    assert split.train["outcome"].tolist() == [1, 0]
    place = list(load_object(EXAMPLE, "features.py", "NUMBERS")).index("distance")
    assert split.train["numbers"][:, place] == pytest.approx(np.log([600, 700]))


def test_statistics_are_of_training_rows_only() -> None:
    sums = task().statistics(airline([5, 6, 7], ["late"] * 3))
    place = list(load_object(EXAMPLE, "features.py", "NUMBERS")).index("distance")
    assert sums["features.count"][place] == 2
    assert sums["features.sum"][place] == pytest.approx(np.log(600) + np.log(700), rel=1e-6)


def test_what_was_not_observed_counts_as_the_mean() -> None:
    import torch

    data = airline([6, 7, 8], ["late"] * 3)
    data.columns["temp"][:] = [10.0, 30.0, np.nan]
    made = task()
    split = made.read(data, {})
    net = made.model(made.statistics(data)).eval()
    codes = torch.tensor(split.train["codes"][:1])
    numbers = torch.tensor(split.train["numbers"][:1])
    place = list(load_object(EXAMPLE, "features.py", "NUMBERS")).index("temperature")
    missing, mean = numbers.clone(), numbers.clone()
    missing[0, place], mean[0, place] = float("nan"), 20.0
    assert net(missing, codes).shape == (1,)
    assert net(missing, codes).item() == pytest.approx(net(mean, codes).item(), abs=1e-6)
    assert net(numbers, codes).item() != pytest.approx(net(mean, codes).item(), abs=1e-6)


def test_scaling_does_not_travel_with_the_weights() -> None:
    made = task()
    net = made.model(made.statistics(airline([6, 7], ["late"] * 2)))
    assert {"mean", "scale"}.isdisjoint(net.state_dict())


def test_the_contract_and_the_task_name_the_same_classes() -> None:
    assert JOB.data.contract.columns["outcome"].values == tuple(task().classes)
