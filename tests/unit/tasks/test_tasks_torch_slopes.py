"""Gradients that stay factors: what comes of them is what autograd gives, whatever the layer is part of."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.func import vmap  # noqa: E402
from torch.nn import functional  # noqa: E402

from archipel.tasks.torch.client_rows import Room  # noqa: E402
from archipel.tasks.torch.slopes import Slopes  # noqa: E402

pytestmark = pytest.mark.torch

CLIENTS, ROWS, WIDE = 3, 4, 5


def _dense(w: Any, x: Any) -> Any:
    return functional.linear(x, w["matrix"], w["bias"]).square().mean()


def _without_bias(w: Any, x: Any) -> Any:
    return functional.linear(x, weight=w["matrix"]).square().mean()


def _twice(w: Any, x: Any) -> Any:
    once = functional.linear(x, w["matrix"], w["bias"]).tanh()
    return functional.linear(once, w["matrix"], w["bias"]).square().mean() + w["matrix"].sum()


def _transposed(w: Any, x: Any) -> Any:
    return functional.linear(x, w["matrix"].T, w["bias"]).square().mean()


def _computed(w: Any, x: Any) -> Any:
    return functional.linear(x, w["matrix"] * 2).square().mean()


def _of_a_row(w: Any, x: Any) -> Any:
    return functional.linear(x[0], w["matrix"], w["bias"]).square().mean()


def _of_sequences(w: Any, x: Any) -> Any:
    return functional.linear(x.view(2, 2, WIDE), w["matrix"], w["bias"]).exp().mean()


def _of_what_all_share(w: Any, x: Any) -> Any:
    return (functional.linear(torch.ones(1, WIDE).double(), w["matrix"]) * x).square().mean()


LOSSES = [_dense, _without_bias, _twice, _transposed, _computed, _of_a_row, _of_sequences, _of_what_all_share]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__.strip("_"))
def test_slopes_are_those_of_each_client_alone(loss: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = {"matrix": (WIDE, WIDE), "bias": (WIDE,)}
    weights = {
        name: torch.randn((CLIENTS, *shape), dtype=torch.float64, generator=generator).requires_grad_()
        for name, shape in shapes.items()
    }
    x = torch.randn((CLIENTS, ROWS, WIDE), dtype=torch.float64, generator=generator)
    clients = [{name: value[at] for name, value in weights.items()} for at in range(CLIENTS)]
    alone = torch.stack([loss(own, batch) for own, batch in zip(clients, x, strict=True)]).sum()
    expected = dict(zip(weights, torch.autograd.grad(alone, list(weights.values()), allow_unused=True), strict=True))
    before = {name: value.detach().clone() for name, value in weights.items()}

    slopes = Slopes(weights)
    with slopes.by_hand():
        losses = vmap(loss)(weights, x)
    slopes.differentiate(losses)
    written = {name: torch.full_like(value, 7.0) for name, value in before.items()}
    slopes.write(written)
    slopes.descend({"matrix": 0.5, "bias": 0.25})

    assert losses.detach().sum().item() == pytest.approx(alone.detach().item(), rel=1e-12)
    for name, rate in (("matrix", 0.5), ("bias", 0.25)):
        slope = torch.zeros_like(before[name]) if expected[name] is None else expected[name]
        assert torch.allclose(written[name], slope, rtol=1e-12, atol=1e-14)
        assert torch.allclose(weights[name].detach(), before[name] - rate * slope, rtol=1e-12, atol=1e-14)


def test_a_room_is_kept_for_those_who_come_next() -> None:
    room, like = Room(), torch.zeros(6)
    first = room.take(1, 4, like)
    assert first.shape == (4, 6)
    assert room.take(1, 3, like).data_ptr() == first.data_ptr()
    assert room.take(0, 4, like).data_ptr() != first.data_ptr()
    assert room.take(1, 5, like).shape == (5, 6)
