"""Laws every algorithm keeps; run them over your own with `check_algorithm(MyAlgorithm({}))`.

    from archipel.federated.conformance import LAWS, check_algorithm

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_my_algorithm_keeps(law):
        law(MyAlgorithm({"eta": 0.1}))

Each law raises an AssertionError that says what was broken. Bits are compared, not closeness: a run that was killed
and resumed, and one whose updates came in another order, must end with the same model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from archipel.federated.fold import fold_arrays
from archipel.federated.port import Algorithm, Block, RoundFacts
from archipel.spec import decode, encode, pack, unpack

Updates = dict[str, tuple[float, dict[str, Block]]]
Law = Callable[[Algorithm], None]
_SIZE = 37
_SITES = 5
_FACTS = RoundFacts(step=1, cohort=_SITES, population=8)


def names_are_consistent(algorithm: Algorithm) -> None:
    """Parts are named once, what is sent is state, and the variant crosses the wire unchanged."""
    parts = (*algorithm.weighted, *algorithm.uniform)
    assert parts, "an algorithm averages at least one part"
    assert len(set(parts)) == len(parts), f"a part is named twice: {parts}"
    assert set(algorithm.sent) <= set(algorithm.state), f"sent {algorithm.sent} is not state {algorithm.state}"
    variant = algorithm.variant()
    assert all(math.isfinite(value) for value in variant.values()), f"the variant is not finite: {variant}"
    assert decode(encode(variant), dict[str, float]) == variant, "the variant changes on the wire"


def apply_returns_blocks_like_its_arguments(algorithm: Algorithm) -> None:
    """The next model and every state vector come back, in the shape and dtype they went in."""
    for dtype in (np.float32, np.float64):
        model, means, state = _arguments(algorithm, dtype)
        following, after = algorithm.apply(_FACTS, model, means, state)
        assert set(after) == set(algorithm.state), f"state {algorithm.state} went in, {sorted(after)} came out"
        for name, block in {"model": following, **after}.items():
            assert (block.shape, block.dtype) == (model.shape, model.dtype), f"{name} changed shape or dtype"


def apply_changes_no_argument(algorithm: Algorithm) -> None:
    """Arguments are read only."""
    model, means, state = _arguments(algorithm, np.float32)
    blocks = [model, *means.values(), *state.values()]
    before = [block.tobytes() for block in blocks]
    for block in blocks:
        block.flags.writeable = False
    algorithm.apply(_FACTS, model, means, state)
    assert [block.tobytes() for block in blocks] == before, "an argument was changed"


def blocks_give_what_the_whole_gives(algorithm: Algorithm) -> None:
    """Applying block by block equals applying once, bit for bit."""
    model, means, state = _arguments(algorithm, np.float32)
    whole, whole_state = algorithm.apply(_FACTS, model, means, state)
    for cut in (1, 8, _SIZE - 1):
        pieces = [
            algorithm.apply(_FACTS, model[part], _cut(means, part), _cut(state, part))
            for part in (slice(0, cut), slice(cut, None))
        ]
        _same(whole, np.concatenate([piece for piece, _ in pieces]), f"the model, cut at {cut}")
        for name, block in whole_state.items():
            _same(block, np.concatenate([after[name] for _, after in pieces]), f"state {name}, cut at {cut}")


def order_of_updates_does_not_matter(algorithm: Algorithm) -> None:
    """Updates that come in another order give the same bits."""
    model = _vector(0, np.float32)
    updates = _updates(algorithm, 1)
    first = fold_arrays(algorithm, _FACTS, updates, model)
    second = fold_arrays(algorithm, _FACTS, dict(reversed(updates.items())), model)
    _same(first[0], second[0], "the model, with the updates in another order")
    for name in algorithm.state:
        _same(first[1][name], second[1][name], f"state {name}, with the updates in another order")


def state_survives_storage(algorithm: Algorithm) -> None:
    """A round after the state was written and read back gives the bits of one that was not interrupted."""
    model, state = fold_arrays(algorithm, _FACTS, _updates(algorithm, 1), _vector(0, np.float32))
    stored = dict(unpack(pack(state))) if state else {}
    later = RoundFacts(step=2, cohort=_SITES, population=8)
    straight = fold_arrays(algorithm, later, _updates(algorithm, 2), model, state)
    resumed = fold_arrays(algorithm, later, _updates(algorithm, 2), model, stored)
    _same(straight[0], resumed[0], "the model after the state was stored and read")
    for name in algorithm.state:
        _same(straight[1][name], resumed[1][name], f"state {name} after it was stored and read")


def nothing_learnt_changes_nothing(algorithm: Algorithm) -> None:
    """Updates of zeros in the first round leave the model as it was."""
    model = _vector(0, np.float32)
    zeros = {name: np.zeros(_SIZE, np.float32) for name in (*algorithm.weighted, *algorithm.uniform)}
    following, _ = fold_arrays(algorithm, _FACTS, {f"s{index}": (1.0, zeros) for index in range(_SITES)}, model)
    _same(model, following, "the model after updates of zeros")


LAWS: tuple[Law, ...] = (
    names_are_consistent,
    apply_returns_blocks_like_its_arguments,
    apply_changes_no_argument,
    blocks_give_what_the_whole_gives,
    order_of_updates_does_not_matter,
    state_survives_storage,
    nothing_learnt_changes_nothing,
)


def check_algorithm(algorithm: Algorithm) -> None:
    """Hold an algorithm against all laws; an AssertionError says which one it breaks."""
    for law in LAWS:
        law(algorithm)


def _vector(seed: int, dtype: type[np.floating]) -> Block:
    return np.random.default_rng(seed).standard_normal(_SIZE).astype(dtype)


def _arguments(algorithm: Algorithm, dtype: type[np.floating]) -> tuple[Block, dict[str, Block], dict[str, Block]]:
    parts = (*algorithm.weighted, *algorithm.uniform)
    means = {name: _vector(10 + index, dtype) for index, name in enumerate(parts)}
    state = {name: np.abs(_vector(20 + index, dtype)) for index, name in enumerate(algorithm.state)}
    return _vector(0, dtype), means, state


def _updates(algorithm: Algorithm, step: int) -> Updates:
    parts = (*algorithm.weighted, *algorithm.uniform)
    return {
        f"s{site}": (
            1.0 + site,
            {name: _vector(100 * step + 10 * site + index, np.float32) for index, name in enumerate(parts)},
        )
        for site in range(_SITES)
    }


def _cut(blocks: Mapping[str, Block], part: slice) -> dict[str, Block]:
    return {name: block[part] for name, block in blocks.items()}


def _same(one: Block, other: Block, what: str) -> None:
    assert one.tobytes() == other.tobytes(), f"{what} is not the same bit for bit"
