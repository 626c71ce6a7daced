"""The JAX adapter: the published laws, steps beside the other adapters, executors, exports, mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from tasks_benches import LABELS, MATRIX, STATISTICS, a_job, site_data

from archipel.tasks.conformance import LAWS

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from archipel.tasks.jax import JaxTask, Split, scaling  # noqa: E402
from archipel.tasks.jax.adapter import JaxAdapter  # noqa: E402


class JaxClouds(JaxTask):
    classes = ("one", "two", "three")
    features = ("birds",)
    label = "kind"

    def __init__(self, train, test):
        self.rows = train, test

    def read(self, site, statistics):
        train, test = ({"birds": MATRIX[rows], "kind": LABELS[rows]} for rows in self.rows)
        return Split(train=train, test=test)

    def init(self, key, statistics):
        mean, scale = scaling(statistics)
        keys = jax.random.split(key)
        first = jax.random.normal(keys[0], (4, 16)) / 2
        last = jax.random.normal(keys[1], (16, 3)) / 4
        return {"first": first / scale[:, None], "shift": -(mean / scale) @ first, "last": last, "bias": jnp.zeros(3)}

    def forward(self, params, batch, key):
        hidden = jnp.tanh(batch["birds"] @ params["first"] + params["shift"])
        return hidden @ params["last"] + params["bias"]


class JaxBench:
    def open(self, train, test):
        return JaxAdapter(a_job("jax"), JaxClouds(train, test), site_data(), STATISTICS)

    def inputs(self, rows):
        return {"birds": MATRIX[rows].astype(np.float32)}

    def labels(self):
        return LABELS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_jax_keeps_the_law(law, tmp_path):
    law(JaxBench(), tmp_path)
