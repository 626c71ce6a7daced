"""DP-SGD: each row's gradient clipped, drawn by its own coin, with noise that follows from the site's secret."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archipel.data.bundle import pack_bundle
from archipel.data.site_data import SiteData
from archipel.security.privacy import NoiseStream, private_steps, seeded_secret
from archipel.simulation import Simulation
from archipel.spec import LocalTraining, StateError, TaskError
from archipel.spec.job import job_from

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

from archipel.tasks.port import LocalPlan, PrivateSteps, Split  # noqa: E402
from archipel.tasks.torch import TorchTask  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402

ROWS, CLIP, RATE = 40, 0.5, 0.3
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, 3)).astype(np.float32)
X[7] *= 1e4  # one row that would move everything
Y = rng.integers(0, 2, ROWS)
SECRET = seeded_secret(4)


class Points(TorchTask):
    classes, features, label = ("a", "b"), ("x",), "y"

    def read(self, site, statistics):
        return Split(train={"x": X, "y": Y}, test={"x": X, "y": Y})

    def model(self, statistics):
        return nn.Linear(3, 2)


class Odd(Points):
    def collate(self, samples, rows):
        return super().collate(samples, rows)


def adapter(task: TorchTask) -> TorchAdapter:
    job = job_from({"name": "a", "task": {"code": "t.py:T", "framework": "torch"}, "data": {"dataset": "d"}})
    return TorchAdapter(job, task, SiteData(site="s", path=Path(), columns={}, row_ids=np.arange(ROWS)), {})


def plan(noise: float = 1e-9, steps: int = 1, secret: bytes = SECRET, rate: float = RATE) -> LocalPlan:
    private = PrivateSteps(clip_norm=CLIP, noise_multiplier=noise, sampling_rate=rate, steps=steps, secret=secret)
    return LocalPlan(local=LocalTraining(), learning_rate=1.0, epochs=1, seed=(1,), private=private)


def by_hand(weights: np.ndarray, rate: float) -> np.ndarray:
    """One step without noise: softmax regression's gradient row by row, in float64."""
    matrix, bias = weights[:6].reshape(2, 3).astype(float), weights[6:].astype(float)
    total = np.zeros(8)
    for row in np.flatnonzero(NoiseStream(SECRET, "rows", 1).uniform(0, ROWS) < rate):
        scores = matrix @ X[row].astype(float) + bias
        share = np.exp(scores - scores.max())
        slope = share / share.sum() - np.eye(2)[Y[row]]
        gradient = np.concatenate([np.outer(slope, X[row]).ravel(), slope])
        total += gradient * min(1.0, CLIP / max(np.linalg.norm(gradient), 1e-30))
    return -total / (rate * ROWS)


@pytest.mark.parametrize("rate", [RATE, 1.0])
def test_a_step_is_the_sum_of_clipped_gradients_over_the_expected_rows(rate: float) -> None:
    site = adapter(Points())
    weights = site.initial(3)
    trained = site.train(weights, plan(rate=rate), lambda done: None)
    assert trained.delta == pytest.approx(by_hand(weights.vector, rate), abs=1e-5)
    assert (trained.examples, trained.steps, trained.loss_sum, trained.loss_examples) == (ROWS, 1, 0.0, 0)


def test_no_row_moves_a_step_further_than_its_bound() -> None:
    site = adapter(Points())
    weights = site.initial(3)
    deltas = []
    for value in (0.0, 1e6, np.nan):
        changed = adapter(Points())
        changed.split.train["x"][7] = value  # type: ignore[index]
        deltas.append(changed.train(weights, plan(rate=1.0), lambda done: None).delta)
    for one in deltas:
        for other in deltas:
            assert np.linalg.norm(one - other) <= 2 * CLIP / ROWS * (1 + 1e-4)
    X[7] = 1e4


def test_noise_has_the_deviation_that_is_accounted_for() -> None:
    site = adapter(Points())
    weights = site.initial(3)
    still = site.train(weights, plan(rate=1.0), lambda done: None).delta
    moved = [
        site.train(weights, plan(noise=2.0, secret=seeded_secret(seed), rate=1.0), lambda done: None).delta - still
        for seed in range(60)
    ]
    assert np.std(moved) == pytest.approx(2.0 * CLIP / ROWS, rel=0.1)


def test_the_same_secret_gives_the_same_bytes_and_another_one_others() -> None:
    site = adapter(Points())
    weights = site.initial(3)
    first, again, other = (
        site.train(weights, plan(noise=1.0, steps=3, secret=secret), lambda done: None).delta
        for secret in (SECRET, SECRET, seeded_secret(5))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_are_drawn_each_by_itself() -> None:
    drawn = np.array([NoiseStream(SECRET, "rows", step).uniform(0, 1000) < 0.1 for step in range(400)])
    sizes = drawn.sum(axis=1)
    assert sizes.mean() == pytest.approx(100, abs=2)
    assert sizes.var() == pytest.approx(90, rel=0.25), "a step of fixed size has none"
    assert np.abs(drawn.mean(axis=0) - 0.1).max() < 0.08


@pytest.mark.parametrize(("rate", "epochs", "steps"), [(0.01, 1, 100), (0.3, 1, 4), (1.0, 2, 2), (0.07, 7, 100)])
def test_each_row_is_in_as_many_steps_on_average_as_there_are_epochs(rate: float, epochs: int, steps: int) -> None:
    assert private_steps(rate, epochs) == steps


def test_a_task_with_batches_of_its_own_is_refused_by_name() -> None:
    site = adapter(Odd())
    with pytest.raises(TaskError, match="default batches"):
        site.train(site.initial(3), plan(), lambda done: None)


TASK = """
import numpy as np
from torch import nn

from archipel.tasks.port import Split
from archipel.tasks.torch import TorchTask


class Points(TorchTask):
    classes, features, label = ("a", "b"), ("x",), "y"

    def __init__(self, norm=False):
        self.norm = norm

    def read(self, site, statistics):
        rows = dict(np.load(site.path / "points.npz"))
        return Split(train=rows, test=rows)

    def model(self, statistics):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) if self.norm else nn.Linear(3, 2)
"""


def simulation(folder: Path, **options) -> Simulation:
    (folder / "task.py").write_text(TASK)
    for site in ("a", "b"):
        (folder / site).mkdir(exist_ok=True)
        np.savez(folder / site / "points.npz", x=X, y=Y)
    job = job_from(
        {
            "name": "points",
            "task": {"code": "task.py:Points", "framework": "torch", "options": options},
            "data": {"dataset": "points"},
            "federation": {"rounds": 2},
            "privacy": {
                "statistics": False,
                "examples": {"clip_norm": CLIP, "noise_multiplier": 1.0, "sampling_rate": RATE},
            },
        }
    )
    bundle = pack_bundle(folder, ("*.py",))
    return Simulation(job, bundle, {site: folder / site for site in ("a", "b")}, folder / "simulation")


def test_a_run_of_private_sites_tells_no_losses_and_draws_fresh_noise_each_time(tmp_path: Path) -> None:
    ends = [simulation(tmp_path).run() for _ in range(2)]
    assert ends[0].model.digest != ends[1].model.digest
    assert [item.loss for item in ends[0].progress.losses] == [None, None]


def test_running_statistics_are_refused_where_there_is_noise(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="running statistics"):
        simulation(tmp_path, norm=True).run()
