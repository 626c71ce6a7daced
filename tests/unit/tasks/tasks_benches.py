"""Benches for the conformance suite, and the small data set behind them: three clouds in four dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archipel.data.site_data import SiteData
from archipel.spec.job import DataSpec, FederationSpec, JobSpec, PrivacySpec, ResourceSpec, TaskSpec
from archipel.tasks.numpy import NumpyTask, Split
from archipel.tasks.numpy.adapter import NumpyAdapter

FEATURES = ("length", "depth", "width", "mass")
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 60)
MATRIX = (RNG.normal(size=(60, 4)) + np.eye(3, 4)[LABELS] * 3) * [1, 2, 5, 400] + [40, 20, 200, 4000]
STATISTICS = {
    "features.count": np.full(4, 60.0),
    "features.sum": MATRIX.sum(axis=0),
    "features.square": (MATRIX**2).sum(axis=0),
}


def a_job(framework: str = "numpy", *, seed: int = 0, histograms: bool = True) -> JobSpec:
    return JobSpec(
        name="clouds",
        task=TaskSpec(code="task.py:Clouds", framework=framework),
        data=DataSpec(dataset="clouds"),
        federation=FederationSpec(seed=seed),
        privacy=PrivacySpec(histograms=histograms),
        resources=ResourceSpec(device="cpu"),
    )


def site_data() -> SiteData:
    return SiteData(site="here", path=Path(), columns={}, row_ids=np.arange(60))


def columns_of(rows) -> dict:
    named = {name: MATRIX[rows, place] for place, name in enumerate(FEATURES)}
    return named | {"kind": LABELS[rows]}


class Clouds(NumpyTask):
    classes = ("one", "two", "three")
    features = FEATURES
    label = "kind"

    def __init__(self, train=None, test=None):
        self.train, self.test = (np.arange(60) if rows is None else rows for rows in (train, test))

    def read(self, site, statistics):
        return Split(train=columns_of(self.train), test=columns_of(self.test))


class NumpyBench:
    def open(self, train, test):
        return NumpyAdapter(a_job(), Clouds(train, test), site_data(), STATISTICS)

    def inputs(self, rows):
        return {name: MATRIX[rows, place].astype(np.float32) for place, name in enumerate(FEATURES)}

    def labels(self):
        return LABELS
