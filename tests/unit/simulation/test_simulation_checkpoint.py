"""What a simulation goes on from: written now and then, whole or not at all, and true to its round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archipel.simulation.checkpoint import EVERY_SECONDS, Checkpoints, Standing
from archipel.simulation.clock.port import Assignment, Moment
from archipel.simulation.controls import Controls
from archipel.spec import StorageFullError


def standing(step: int) -> Standing:
    vector = np.full(3, step, np.float32)
    one = Assignment(client=7, step=step, ends=9.5, number=3, began=2.0, rows=4)
    return Standing(
        step=step,
        executor="loop",
        vector=vector,
        state={"momentum": -vector},
        models={step: vector + 1},
        moment=Moment(now=2.5, made=step, numbered=4, flying=(one,)),
    )


def test_a_checkpoint_is_written_once_enough_time_has_passed(tmp_path: Path) -> None:
    now = 0.0
    kept = Checkpoints(tmp_path / "c.safetensors", "key", lambda: now)
    assert not kept.offer(standing(1))
    assert kept.read() is None
    now = EVERY_SECONDS
    assert kept.offer(standing(2))
    now = 1.5 * EVERY_SECONDS
    assert not kept.offer(standing(3))
    found = Checkpoints(tmp_path / "c.safetensors", "key").read()
    assert found is not None
    assert (found.step, found.executor, found.vector.tolist()) == (2, "loop", [2, 2, 2])
    assert found.state["momentum"].tolist() == [-2, -2, -2]
    assert {begun: model.tolist() for begun, model in found.models.items()} == {2: [3, 3, 3]}
    assert found.moment == standing(2).moment
    assert kept.flush() == 3
    assert Checkpoints(tmp_path / "c.safetensors", "other").read() is None
    kept.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path / "c.safetensors", "key")
    kept.offer(standing(1))
    kept.flush()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    kept.offer(standing(2))
    with pytest.raises(StorageFullError, match="no space left"):
        kept.flush()
    found = Checkpoints(tmp_path / "c.safetensors", "key").read()
    assert found is not None
    assert found.step == 1


def test_controls_of_rounds_after_the_checkpoint_are_as_if_they_had_never_been(tmp_path: Path) -> None:
    first = Controls(tmp_path)
    for step, client in ((1, "a"), (1, "b"), (2, "a"), (3, "a"), (3, "c")):
        first.put(client, np.array([float(step)]), step)
        if step == 1:
            first.settle()
    second = Controls(tmp_path, after=2)
    got = {client: second.get(client) for client in "abc"}
    assert {client: None if one is None else one.tolist() for client, one in got.items()} == {
        "a": [2.0],
        "b": [1.0],
        "c": None,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a@2.npy", "b@1.npy"]
    assert Controls(tmp_path).get("a") is None
