"""precision = "auto": products in bfloat16 where the device is made for them, and nothing else is other than before."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tasks_benches import STATISTICS, a_job, site_data

torch = pytest.importorskip("torch")
from test_tasks_conformance import TorchClouds  # noqa: E402

from archipel.spec import StateError  # noqa: E402
from archipel.tasks.conformance import plan  # noqa: E402
from archipel.tasks.torch import threads  # noqa: E402
from archipel.tasks.torch.adapter import TorchAdapter  # noqa: E402
from archipel.tasks.torch.threads import choose_precision  # noqa: E402

pytestmark = pytest.mark.torch
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ROWS = np.arange(60)
LARGE = 2**23


def made_for(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


def trained(precision):
    job = a_job("torch")
    job = msgspec.structs.replace(job, resources=msgspec.structs.replace(job.resources, precision=precision))
    adapter = TorchAdapter(job, TorchClouds(ROWS, ROWS), site_data(), STATISTICS)
    start = adapter.initial(1)
    return adapter.train(start, plan(), lambda _: None), adapter.evaluate(start)


def test_a_processor_decides_by_what_it_is_made_for(monkeypatch):
    made_for(monkeypatch, avx512_bf16=True)
    assert choose_precision("auto", CPU, LARGE) == torch.bfloat16
    assert choose_precision("auto", CPU, LARGE - 1) is None, "too small to gain"
    assert choose_precision("exact", CPU, LARGE) is None
    made_for(monkeypatch, avx512_bf16=False, amx_bf16=True)
    assert choose_precision("auto", CPU, LARGE) == torch.bfloat16
    made_for(monkeypatch, avx512_bf16=False)
    assert choose_precision("auto", CPU, LARGE) is None
    with pytest.raises(StateError, match="precision 'half'"):
        choose_precision("half", CPU, LARGE)


@pytest.mark.parametrize(("generation", "chosen"), [((7, 5), None), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_a_gpu_decides_by_its_generation(monkeypatch, generation, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)
    assert choose_precision("auto", CUDA, LARGE) == (chosen and getattr(torch, chosen))


def test_only_products_of_training_are_rounded(monkeypatch):
    made_for(monkeypatch, avx512_bf16=True)
    assert trained("auto")[0].delta.tobytes() == trained("exact")[0].delta.tobytes(), "clouds are too small to gain"
    monkeypatch.setattr(threads, "_WORTH", 8 * 4 * 16)  # its batch times its largest matrix
    exact, exact_scores = trained("exact")
    brief, brief_scores = trained("auto")
    off = np.linalg.norm(brief.delta - exact.delta) / np.linalg.norm(exact.delta)
    assert 0 < off < 0.1
    assert brief.delta.dtype == np.float32
    assert all(np.array_equal(value, brief_scores[name]) for name, value in exact_scores.items())
    assert trained("auto")[0].delta.tobytes() == brief.delta.tobytes()


def test_a_device_that_is_not_made_for_it_trains_as_before(monkeypatch):
    made_for(monkeypatch)
    assert trained("auto")[0].delta.tobytes() == trained("exact")[0].delta.tobytes()
