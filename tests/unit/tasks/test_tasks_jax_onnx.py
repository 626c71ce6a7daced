"""JAX models as ONNX: what is exported answers as JAX does, for one row and for many; what is not known is named."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from tasks_benches import a_job, site_data

from archipel.spec import TaskError

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from archipel.tasks.jax import JaxTask, Split  # noqa: E402
from archipel.tasks.jax.adapter import JaxAdapter  # noqa: E402

RNG = np.random.default_rng(3)
SAMPLES = {
    "x": RNG.normal(size=(6, 4)).astype(np.float32),
    "words": RNG.integers(0, 5, (6, 3)),
    "one": RNG.normal(size=6).astype(np.float32),
    "label": RNG.integers(0, 2, 6),
}
PARAMS = {
    "w": RNG.normal(size=(4, 4)).astype(np.float32),
    "b": RNG.normal(size=4).astype(np.float32),
    "table": RNG.normal(size=(5, 4)).astype(np.float32),
}


def _normed(p, b):
    centred = b["x"] - b["x"].mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(b["x"].var(-1, keepdims=True) + 1e-5) * p["b"]


def _attentive(p, b):
    words = p["table"][b["words"]]
    weight = jax.nn.softmax(jnp.einsum("rid,rjd->rij", words, words) / 2.0)
    return jnp.einsum("rij,rjd->rid", weight, words @ p["w"]).max(1)


def _activations(p, b):
    x = b["x"] @ p["w"] + p["b"]
    kinds = (jax.nn.gelu, jax.nn.silu, jax.nn.softplus, jax.nn.elu, jax.nn.leaky_relu, jax.nn.relu6, jax.nn.sigmoid)
    exact = jax.nn.gelu(x, approximate=False)
    return jnp.concatenate([*(kind(x) for kind in kinds), exact, jnp.sign(x), jnp.floor(x), x**2, x**3], axis=1)


def _columns(p, b):
    return jnp.stack((b["x"][:, 0] * b["one"], b["x"][:, 1:3].sum(1), b["x"][:, ::2].min(1)), axis=1)


def _missing(p, b):
    x = jnp.where(jnp.isnan(b["x"]) | (b["x"] < -1), 0.0, b["x"])
    return x / b["x"].shape[0] + jax.nn.one_hot(b["words"][:, 0], 4) + jax.nn.one_hot(x.argmax(1), 4)


def _shaped(p, b):
    flat = p["table"][b["words"]].reshape(b["words"].shape[0], -1)
    return jnp.clip(jnp.log1p(jnp.exp(flat[:, 2:7].T.T)), 0.1, 1.5) + jnp.expand_dims(b["one"], 1)


SCORES = {
    "norm": (("x",), _normed),
    "attention": (("words",), _attentive),
    "activations": (("x",), _activations),
    "columns": (("x", "one"), _columns),
    "missing values": (("words", "x"), _missing),
    "shapes": (("one", "words"), _shaped),
}


class Scored(JaxTask):
    def __init__(self, features, scores):
        self.features = features
        self._scores = scores

    def read(self, site, statistics):
        return Split(train=SAMPLES, test=SAMPLES)

    def init(self, key, statistics):
        return PARAMS

    def scores(self, params, batch):
        return self._scores(params, batch)


def _opened(features, scores):
    return JaxAdapter(a_job("jax"), Scored(features, scores), site_data(), {})


@pytest.mark.parametrize("name", SCORES)
def test_the_exported_model_answers_as_jax_does(name, tmp_path):
    features, scores = SCORES[name]
    adapter = _opened(features, scores)
    adapter.export(adapter.initial(0), tmp_path / "model.onnx")
    session = ort.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(features)
    given = {key: value.astype(np.int32) if key == "words" else value for key, value in SAMPLES.items()}
    for rows in (slice(None), slice(2, 3), slice(1, 5)):
        taken = {key: value[rows] for key, value in given.items()}
        (found,) = session.run(None, {key: taken[key] for key in features})
        expected = np.asarray(jax.jit(scores)(PARAMS, taken))
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert np.allclose(found, expected, atol=1e-5)


REFUSED = [
    ((), lambda p, b: b["x"], "the task names no features"),
    (("x",), lambda p, b: jnp.cumsum(b["x"], axis=1), "cannot be exported: no counterpart of cumsum"),
    (("x",), lambda p, b: b["x"] + jnp.arange(b["x"].shape[0])[:, None], "cannot be exported: numbering the rows"),
]


@pytest.mark.parametrize(("features", "scores", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_has_no_counterpart_is_named_with_the_next_step(features, scores, message, tmp_path):
    adapter = _opened(features, scores)
    with pytest.raises(TaskError, match=message) as caught:
        adapter.export(adapter.initial(0), tmp_path / "model.onnx")
    assert 'serve = "none"' in caught.value.hint
    assert not list(tmp_path.iterdir())
