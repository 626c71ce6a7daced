"""Laws every robust rule keeps, whatever was mixed before it; run them over your own with `check_robust`.

    from archipel.federated.rule_conformance import LAWS

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_my_rule_keeps(law):
        law(Robust(rule=MyRule(), mixing=None, tolerate=2, seed=0))

Each law raises an AssertionError that says what was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

import numpy as np

from archipel.federated.algorithms import FedAvg
from archipel.federated.fold import fold_arrays
from archipel.federated.port import Block, RoundFacts
from archipel.federated.robust.robust import Robust
from archipel.spec import SpecError

Law = Callable[[Robust], None]
_SIZE = 37
_FARTHEST = 5.0
"""Times the spread of the honest updates that liars may move the result from their mean."""
_LIES: Mapping[str, Callable[[Block], Block]] = {
    "sign flipped, four times": lambda honest: -4 * honest.mean(axis=0),
    "out of all measure": lambda honest: np.full_like(honest[0], 1e30),
    "zero": lambda honest: np.zeros_like(honest[0]),
    "near the edge": lambda honest: honest.mean(axis=0) - 1.5 * honest.std(axis=0),
    "a copy": lambda honest: honest[0],
    "not a number": lambda honest: np.full_like(honest[0], np.nan),
    "infinite": lambda honest: np.full_like(honest[0], np.inf),
}


def too_few_updates_are_refused(robust: Robust) -> None:
    """One update less than the rule needs is a SpecError with a next step; as many as it needs are not."""
    least = least_updates(robust)
    robust.require(least)
    hint = None
    try:
        robust.require(least - 1)
    except SpecError as error:
        hint = error.hint
    assert hint is not None, f"{least - 1} updates are not refused, and {least} are needed"
    assert hint, "the refusal names no next step"


def agreement_is_kept(robust: Robust) -> None:
    """Where all updates are the same, that is the result."""
    vector = _honest(robust, 0)[0]
    found = combined(robust, np.repeat(vector[None], least_updates(robust) + 2, axis=0))
    assert np.allclose(found, vector, atol=1e-5), "the same update of everybody came out changed"


def order_of_updates_does_not_matter(robust: Robust) -> None:
    """Updates that come in another order give the same bits."""
    updates = _honest(robust, 1)
    order = list(reversed(range(len(updates))))
    same = combined(robust, updates).tobytes() == combined(robust, updates, order).tobytes()
    assert same, "another order of arrival gave other bits"


def the_result_moves_with_the_updates(robust: Robust) -> None:
    """Where all updates are moved by one vector, so is the result."""
    updates, shift = _honest(robust, 2), np.linspace(-1, 1, _SIZE, dtype=np.float32)
    moved = combined(robust, updates + shift) - shift
    assert np.allclose(moved, combined(robust, updates), atol=1e-4), "the result depends on where the updates are"


def no_lie_carries_the_result_away(robust: Robust) -> None:
    """Whatever f liars say, in whatever places, the result stays with the honest updates."""
    honest = _honest(robust, 3)
    centre = honest.mean(axis=0)
    spread = float(np.linalg.norm(honest - centre, axis=1).max())
    for name, lie in _LIES.items():
        for first in (True, False):
            lies = np.repeat(lie(honest)[None], robust.tolerate, axis=0)
            found = combined(robust, np.concatenate([lies, honest] if first else [honest, lies]))
            distance = float(np.linalg.norm(found - centre))
            assert distance <= _FARTHEST * spread, f"liars that say {name!r} carried the result {distance:g} away"


LAWS: tuple[Law, ...] = (
    too_few_updates_are_refused,
    agreement_is_kept,
    order_of_updates_does_not_matter,
    the_result_moves_with_the_updates,
    no_lie_carries_the_result_away,
)


def check_robust(robust: Robust) -> None:
    """Hold a rule against all laws; an AssertionError says which one it breaks."""
    for law in LAWS:
        law(robust)


def least_updates(robust: Robust) -> int:
    """Return the fewest updates the rule can do with."""
    return next(number for number in count(1) if robust.fits(number, robust.tolerate))


def combined(robust: Robust, updates: Block, order: list[int] | None = None) -> Block:
    """Return what the rule makes of updates, shape (updates, columns), that arrive in this order."""
    facts = RoundFacts(step=1, cohort=len(updates), population=len(updates))
    arrived = {f"s{place:03}": (1.0, {"delta": updates[place]}) for place in order or range(len(updates))}
    nothing = np.zeros(updates.shape[1], updates.dtype)
    return fold_arrays(FedAvg({}), facts, arrived, nothing, robust=robust)[0]


def _honest(robust: Robust, seed: int) -> Block:
    chance = np.random.default_rng(seed)
    shape = (least_updates(robust) + 4, _SIZE)
    return (3 + chance.standard_normal(shape)).astype(np.float32)
