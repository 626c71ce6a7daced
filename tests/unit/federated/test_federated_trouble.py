"""A full disk and a kill in the middle of a fold: nothing is lost, and the fold done again gives the same bytes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from archipel.data.stores.spool import Spool
from archipel.federated.folding import carry_out
from archipel.federated.port import Fold, RoundFacts
from archipel.spec import Part, StorageFullError, Update, encode, pack, parse_header
from archipel.spec.job import FederationSpec

FEDERATION = FederationSpec(algorithm="fedadam")


def make_order(spool):
    def put(seed):
        data = pack({"w": np.random.default_rng(seed).standard_normal(200_000).astype(np.float32)})
        return Part(blob=spool.put(data), manifest=parse_header(data)[0].digest)

    updates = tuple(
        Update(run="run-1", round=2, site=site, kind="train", weight=1.0, parts={"delta": put(index)})
        for index, site in enumerate(("ann", "bob"))
    )
    facts = RoundFacts(step=1, cohort=2, population=2)
    return Fold(round=2, kind="train", updates=updates, model=put(9).blob, state=None, facts=facts)


@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_is_named_and_the_fold_can_be_done_again(tmp_path, monkeypatch, call, allowed):
    spool = Spool(tmp_path)
    order = make_order(spool)
    expected = carry_out(order, FEDERATION, spool)
    for blob in (expected.model, expected.state):
        spool.drop(blob.digest)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    real, calls = getattr(os, call), []

    def full(*words):
        calls.append(words)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(f"archipel.federated.blocks.os.{call}", full)
        if call == "pwrite" or allowed < 2:
            with pytest.raises(StorageFullError) as caught:
                carry_out(order, FEDERATION, spool)
            assert caught.value.hint
            assert not spool.has(expected.model.digest)
    assert [path for path in before if not path.exists()] == []
    assert carry_out(order, FEDERATION, spool) == expected


KILLED = """
import sys
from pathlib import Path
from archipel.data.stores.spool import Spool
from archipel.federated.folding import carry_out
from archipel.spec import decode, encode
sys.path.insert(0, sys.argv[2])
from test_federated_trouble import FEDERATION, make_order
spool = Spool(Path(sys.argv[1]))
print(encode(carry_out(make_order(spool), FEDERATION, spool)).decode())
"""


def test_a_kill_before_the_result_is_in_place_changes_nothing(tmp_path):
    def run(**environment):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "spool"), os.path.dirname(__file__)]  # noqa: PTH120
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)

    killed = run(ARCHIPEL_FAILPOINT=f"federated.fold.before_adopt@{tmp_path / 'died'}")
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == ""
    again = run()
    assert again.returncode == 0, again.stderr
    spool = Spool(tmp_path / "elsewhere")
    assert again.stdout.strip() == encode(carry_out(make_order(spool), FEDERATION, spool)).decode()


BITS = """
import hashlib
import numpy as np
from archipel.federated.algorithms import BUILT_IN
from archipel.federated.fold import fold_arrays
from archipel.federated.port import RoundFacts
chance = np.random.default_rng(3)
hash = hashlib.sha256()
for name in sorted(BUILT_IN):
    algorithm, state = BUILT_IN[name]({}), None
    model = chance.standard_normal(5_003).astype(np.float32)
    for step in (1, 2):
        updates = {
            f"s{index:02}": (index + 0.5, {
                part: chance.standard_normal(model.size).astype(np.float32)
                for part in (*algorithm.weighted, *algorithm.uniform)
            })
            for index in range(66)
        }
        model, state = fold_arrays(algorithm, RoundFacts(step=step, cohort=66, population=80), updates, model, state)
        for vector in (model, *state.values()):
            hash.update(vector.tobytes())
print(hash.hexdigest())
"""


def test_bits_depend_neither_on_vector_instructions_nor_on_threads():
    """Two machines, or an upgrade of one, must agree on a model to the last bit."""
    features = np._core._multiarray_umath.__cpu_features__
    present = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features.get(name)]
    found = set()
    for environment in (
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(present)},
    ):
        done = subprocess.run(
            [sys.executable, "-c", BITS], capture_output=True, text=True, env=os.environ | environment, check=False
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1
