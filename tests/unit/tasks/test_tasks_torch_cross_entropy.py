"""Cross-entropy of clients side by side is that of each alone, and anything else than the plain mean stays torch's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.func import vmap  # noqa: E402
from torch.nn import functional  # noqa: E402

from archipel.tasks.torch.slopes import Slopes  # noqa: E402

CLIENTS, ROWS, CLASSES = 3, 5, 4


def _plain(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, target)


def _positional(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, target, torch.arange(1.0, CLASSES + 1, dtype=torch.float64))


def _smoothed(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, target, label_smoothing=0.1)


def _summed(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, target, reduction="sum")


def _ignoring(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, target, ignore_index=1)


def _of_chances(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, functional.one_hot(target.clamp_min(0), CLASSES).double())


def _of_sequences(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits.unsqueeze(0).mT, target.unsqueeze(0))


def _of_the_same_labels(logits: Any, target: Any) -> Any:
    return functional.cross_entropy(logits, torch.arange(ROWS) % CLASSES) + 0 * target.sum()


LOSSES = [_plain, _positional, _smoothed, _summed, _ignoring, _of_chances, _of_sequences, _of_the_same_labels]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__.strip("_"))
@pytest.mark.parametrize("left_out", [0, 2])
def test_it_is_that_of_each_client_alone(loss: Any, left_out: int) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn((CLIENTS, ROWS, CLASSES), dtype=torch.float64, generator=generator).requires_grad_()
    target = torch.randint(0, CLASSES, (CLIENTS, ROWS), generator=generator)
    target[1, :left_out] = 1 if loss is _ignoring else -100
    alone = torch.stack([loss(own, labels) for own, labels in zip(logits, target, strict=True)])
    (expected,) = torch.autograd.grad(alone.sum(), [logits])
    with Slopes({"logits": logits}).by_hand():
        found = vmap(loss)(logits, target)
    (slope,) = torch.autograd.grad(found.sum(), [logits])
    assert torch.allclose(found, alone, rtol=1e-12)
    assert torch.allclose(slope, expected, rtol=1e-12, atol=1e-14)


def test_no_symbolic_algebra_is_imported_for_it() -> None:
    program = f"""
import sys, torch
from torch.func import vmap
from torch.nn import functional
from archipel.tasks.torch.slopes import Slopes
logits, target = torch.zeros({CLIENTS}, {ROWS}, {CLASSES}), torch.zeros({CLIENTS}, {ROWS}, dtype=torch.long)
with Slopes({{"logits": logits}}).by_hand():
    vmap(functional.cross_entropy)(logits, target)
print("sympy" in sys.modules)
"""
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
