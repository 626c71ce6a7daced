"""Images with channels last: the same shapes and values, and only for models that take them."""

from __future__ import annotations

import numpy as np
import pytest
from tasks_benches import STATISTICS, a_job, site_data

from archipel.spec import NonFiniteError
from archipel.tasks.conformance import plan
from archipel.tasks.port import Weights

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from archipel.tasks.torch import Split, TorchTask  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402
from archipel.tasks.torch.channels_last import channels_last  # noqa: E402

pytestmark = pytest.mark.torch

ROWS = 24
DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.normal(size=(ROWS, 1, 8, 8)).astype(np.float32)
KINDS = DRAWN.integers(0, 3, ROWS)


class Seen(nn.Module):
    """Hands on what it is given, and notes down how it lies in memory."""

    def __init__(self):
        super().__init__()
        self.strides = []

    def forward(self, x):
        """Change nothing."""
        self.strides.append(x.stride())
        return x


class ByView(nn.Module):
    """Asks for channels that come before the places."""

    def forward(self, x):
        """(rows, channels, places, places) to (rows, all)."""
        return x.view(len(x), -1)


class Backwards(nn.Module):
    """Answers by how its images lie in memory."""

    def forward(self, x):
        """(rows, channels, places, places) to (rows, all), the places first where they lie first."""
        return (x if x.is_contiguous() else x.flip(1)).flatten(1)


class Images(TorchTask):
    """Eight by eight, three classes."""

    classes = ("one", "two", "three")
    features = ("x",)
    label = "y"

    def __init__(self, flat):
        self.seen = Seen()
        self.flat = flat

    def model(self, statistics):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), self.seen, nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), self.flat, nn.Linear(24, 3)
        )

    def read(self, site, statistics):
        whole = {"x": IMAGES, "y": KINDS}
        return Split(train=whole, test=whole)


def trained(flat, **job):
    task = Images(flat)
    adapter = TorchAdapter(a_job("torch", **job), task, site_data(), STATISTICS)
    found = adapter.train(adapter.initial(0), plan(), lambda _: None)
    return task.seen.strides[-1], found.delta


def test_convolutions_get_channels_last_and_the_weights_stay_in_the_models_order():
    strides, delta = trained(nn.Flatten())
    assert strides[1] == 1
    plain, other = trained(ByView())
    assert plain[-1] == 1
    np.testing.assert_allclose(delta, other, atol=1e-6)


@pytest.mark.parametrize("flat", [ByView, Backwards])
def test_a_model_that_asks_for_the_other_layout_keeps_it(flat):
    strides, _ = trained(flat())
    assert strides[-1] == 1


def test_what_was_scored_before_does_not_change_the_layout():
    task = Images(nn.Flatten())
    adapter = TorchAdapter(a_job("torch"), task, site_data(), STATISTICS)
    first = adapter.initial(0)
    with pytest.raises(NonFiniteError):
        adapter.evaluate(Weights(manifest=first.manifest, vector=np.full_like(first.vector, np.inf)))
    assert (adapter.train(first, plan(), lambda _: None).delta == trained(nn.Flatten())[1]).all()


def test_nothing_is_left_on_the_module():
    layer, seen = nn.Conv2d(1, 2, 3), Seen()
    module = nn.Sequential(layer, seen)
    with channels_last(module):
        module(torch.from_numpy(IMAGES))
    module(torch.from_numpy(IMAGES))
    assert [strides[1] == 1 for strides in seen.strides] == [True, False]
    assert not layer._forward_pre_hooks
