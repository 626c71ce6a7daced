"""A training step for XLA's devices: torch's own on one device, and the same on a mesh of eight."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tasks_benches import STATISTICS, a_job, site_data

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
from test_tasks_conformance import TorchClouds  # noqa: E402

from archipel.spec import LocalTraining, ShapeError, TaskError  # noqa: E402
from archipel.tasks.devices.fitting import collectives_of  # noqa: E402
from archipel.tasks.port import LocalPlan  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402
from archipel.tasks.torch.lowering import DRAW  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = np.arange(48)
LOCAL = LocalTraining(batch_size=48, learning_rate=0.1, momentum=0.9)
MESH = """
import json, sys
sys.path[:0] = ["tests/unit/tasks", "tests"]
from test_tasks_devices_step import *
from archipel.tasks.devices.fitting import drift_over
step = an_adapter().training_step(LOCAL)
made = step.lowered(jax.devices("cpu"), 48, "bfloat16").compile()
print(json.dumps([len(jax.devices("cpu")), drift_over(step, an_adapter().initial(3).vector),
                  collectives_of(made.as_text())]))
"""


class Dropping(TorchClouds):
    def model(self, statistics):
        return torch.nn.Sequential(super().model(statistics), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))


class Odd(TorchClouds):
    def collate(self, samples, rows):
        return super().collate(samples, rows)


def an_adapter(kind=TorchClouds):
    return TorchAdapter(a_job("torch"), kind(ROWS, ROWS), site_data(), STATISTICS)


def test_a_step_moves_the_weights_as_torch_does_and_in_bfloat16_but_for_its_rounding():
    adapter, home = an_adapter(), jax.devices("cpu")[:1]
    begun = adapter.initial(3)
    plan = LocalPlan(local=LOCAL, learning_rate=0.1, epochs=1, seed=(1,))
    torchs = adapter.train(begun, plan, lambda _: None)
    step, start = adapter.training_step(LOCAL), begun.vector
    exact, loss = step.taken(home, start, step.samples, 0.1, "float32")
    assert np.allclose(exact - start, torchs.delta, atol=1e-6)
    assert abs(loss - torchs.loss_sum / 48) < 1e-5
    with pytest.raises(ShapeError, match="3 rows over 2 devices"):
        step.lowered(home * 2, 3, "float32")
    with pytest.raises(ShapeError, match="0 rows"):
        step.lowered(home, 0, "float32")
    rounded, _ = step.taken(home, start, step.samples, 0.1, "bfloat16")
    off = np.linalg.norm(rounded - exact) / np.linalg.norm(exact - start)
    assert 0 < off < 0.05
    assert rounded.dtype == np.float32


def test_dropout_draws_from_the_number_of_each_row():
    adapter = an_adapter(Dropping)
    start = adapter.initial(3).vector
    step = adapter.training_step(LOCAL)
    home = jax.devices("cpu")[:1]
    one, _ = step.taken(home, start, step.samples, 0.1, "float32")
    again, _ = step.taken(home, start, step.samples, 0.1, "float32")
    other, _ = step.taken(home, start, {**step.samples, DRAW: step.samples[DRAW] + 100}, 0.1, "float32")
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def test_dropout_keeps_the_mean():
    from archipel.tasks.torch.lowering import _dropped

    left, kept = _dropped(np.uint32(3), 4, np.ones(20_000), 0.25)
    assert abs(float(np.mean(kept)) - 0.75) < 0.02
    assert np.allclose(np.unique(left), [0, 4 / 3])
    same, _ = _dropped(np.uint32(3), 4, np.ones(5), 0.25, False)  # noqa: FBT003
    assert np.array_equal(same, np.ones(5))


def test_what_cannot_be_lowered_is_said_by_name():
    with pytest.raises(TaskError, match=r"collate\(\) of its own"):
        an_adapter(Odd).training_step(LOCAL)


@pytest.mark.skipif("ARCHIPEL_TEST_DEVICES" not in os.environ, reason="make test-devices: a process of its own")
def test_eight_devices_move_the_weights_as_one_does_and_add_their_gradients():
    done = subprocess.run(
        [sys.executable, "-c", MESH],
        capture_output=True,
        env={"PATH": "/usr/bin", "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    devices, drift, collectives = json.loads(done.stdout.splitlines()[-1])
    assert devices == 8
    assert drift < 1e-4
    assert collectives["all-reduce"] >= 1


def test_collectives_are_counted_once_where_they_begin_and_end_apart():
    program = """
      %a = (f32[4]{0}, f32[]) all-reduce-start(%x, %y), replica_groups={{0,1}}
      %b = (f32[4]{0}, f32[]) all-reduce-done(%a)
      %c = f32[8]{0} all-gather(%b), dimensions={0}
      %all-reduce.7 = f32[] add(%c, %c)
    """
    assert collectives_of(program) == {"all-gather": 1, "all-reduce": 1}
