"""All adapters keep the published laws."""

from __future__ import annotations

import numpy as np
import pytest
from tasks_benches import FEATURES, LABELS, MATRIX, STATISTICS, NumpyBench, a_job, site_data

from archipel.tasks.conformance import LAWS

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")


from archipel.tasks.jax import JaxTask  # noqa: E402
from archipel.tasks.jax.adapter import JaxAdapter  # noqa: E402
from archipel.tasks.torch import Split, TorchTask, scaling  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402


class Scaled(torch.nn.Module):
    def __init__(self, mean, scale):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))

    def forward(self, x):
        return self.layers((x - self.mean) / self.scale)


class TorchClouds(TorchTask):
    classes = ("one", "two", "three")
    features = ("birds",)
    label = "kind"

    def __init__(self, train, test):
        self.rows = train, test

    def model(self, statistics):
        return Scaled(*scaling(statistics))

    def read(self, site, statistics):
        train, test = ({"birds": MATRIX[rows], "kind": LABELS[rows]} for rows in self.rows)
        return Split(train=train, test=test)


class TorchBench:
    def open(self, train, test):
        return TorchAdapter(a_job("torch"), TorchClouds(train, test), site_data(), STATISTICS)

    def inputs(self, rows):
        return {"birds": MATRIX[rows].astype(np.float32)}

    def labels(self):
        return LABELS


class JaxClouds(JaxTask):
    classes = ("one", "two", "three")
    features = ("birds",)
    label = "kind"

    def __init__(self, train, test):
        self.rows = train, test

    read = TorchClouds.read

    def init(self, key, statistics):
        mean, scale = scaling(statistics)
        # By numpy, from the key: what jax.random compiles would cost each test a second.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        first, last = rng.normal(size=(4, 8)) / 2, rng.normal(size=(8, 3)) / 3
        return {"first": first, "last": last, "bias": np.zeros(3), "fixed": {"mean": mean, "scale": scale}}

    def trainable(self, name):
        return not name.startswith("fixed.")

    def forward(self, params, batch, key):
        scaled = (batch["birds"] - params["fixed"]["mean"]) / params["fixed"]["scale"]
        return jax.nn.relu(scaled @ params["first"]) @ params["last"] + params["bias"]


class JaxBench(TorchBench):
    def open(self, train, test):
        return JaxAdapter(a_job("jax"), JaxClouds(train, test), site_data(), STATISTICS)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_numpy_keeps_the_law(law, tmp_path):
    law(NumpyBench(), tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_torch_keeps_the_law(law, tmp_path):
    law(TorchBench(), tmp_path)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_jax_keeps_the_law(law, tmp_path):
    law(JaxBench(), tmp_path)


def test_the_bench_has_the_features_it_names():
    assert MATRIX.shape == (60, len(FEATURES))
