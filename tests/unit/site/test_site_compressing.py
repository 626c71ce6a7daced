"""An update on its way out: what is lost is not lost for good, and what was clipped stays clipped."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.data.compression.low_rank import LowRank
from archipel.data.compression.port import decoded
from archipel.data.compression.quantised import Quantised
from archipel.data.compression.top_k import TopK
from archipel.security.privacy import norm_of
from archipel.site.worker.compressing import compress
from archipel.spec import NonFiniteError, manifest_of

MODEL = manifest_of([("w", (40, 50), np.dtype(np.float32))])


def deltas(rounds: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rounds, 2000)).astype(np.float32)


@pytest.mark.parametrize("codec", [TopK(0.1), LowRank(3)], ids=lambda codec: codec.name)
def test_what_was_sent_is_what_was_learnt_but_for_one_residue(codec):
    residue, arrived = None, np.zeros(2000)
    for step, delta in enumerate(deltas(8), start=1):
        sent = compress(codec, delta, MODEL, (0, step, 9), residue=residue, bound=None)
        residue = sent.residue
        assert residue is not None
        arrived += decoded(codec, sent.tensors, MODEL, delta)
    assert arrived + residue == pytest.approx(deltas(8).sum(axis=0), abs=1e-4)
    assert norm_of(residue) > 0


def test_what_is_right_on_average_leaves_no_residue():
    assert compress(Quantised(4), deltas(1)[0], MODEL, (0, 1, 9), residue=None, bound=None).residue is None


def test_rounding_follows_from_seed_round_and_site_alone():
    def sent(*entropy):
        return (
            compress(Quantised(4), deltas(1)[0], MODEL, entropy, residue=None, bound=None).tensors["levels"].tobytes()
        )

    assert sent(0, 1, 9) == sent(0, 1, 9)
    assert len({sent(0, 1, 9), sent(1, 1, 9), sent(0, 2, 9), sent(0, 1, 8)}) == 4


@pytest.mark.parametrize("codec", [Quantised(8), Quantised(4)], ids=lambda codec: codec.name)
def test_a_clipped_update_arrives_within_its_bound_though_rounding_lengthens_it(codec):
    delta = deltas(1)[0]
    free = decoded(codec, compress(codec, delta, MODEL, (0, 1, 9), residue=None, bound=None).tensors, MODEL, delta)
    bound = 0.999 * norm_of(free)
    sent = compress(codec, delta, MODEL, (0, 1, 9), residue=None, bound=bound)
    arrived = decoded(codec, sent.tensors, MODEL, delta)
    assert norm_of(arrived) <= bound
    assert norm_of(arrived) == pytest.approx(bound, rel=1e-5)
    loose = compress(codec, delta, MODEL, (0, 1, 9), residue=None, bound=1.001 * norm_of(free))
    assert decoded(codec, loose.tensors, MODEL, delta).tobytes() == free.tobytes()


def test_an_update_that_is_no_number_does_not_leave_and_spoils_no_residue():
    with pytest.raises(NonFiniteError, match="the update"):
        compress(TopK(0.1), np.full(2000, np.nan, np.float32), MODEL, (0, 1, 9), residue=None, bound=None)
