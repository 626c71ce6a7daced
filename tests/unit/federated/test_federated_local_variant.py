"""The sites' side of FedProx and SCAFFOLD, by hand and against whole rounds."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.federated.algorithms import algorithm_of
from archipel.federated.fold import fold_arrays
from archipel.federated.local_variant import LocalVariant
from archipel.federated.port import RoundFacts
from archipel.spec import ShapeError, UnknownNameError
from archipel.spec.job import FederationSpec


def vector(*values):
    return np.array(values, np.float64)


def test_plain_algorithms_add_nothing():
    local = LocalVariant.of({})
    assert (local.proximal, local.correction) == (0.0, None)
    outcome = local.after(vector(1, 2), steps=3, learning_rate=0.1)
    assert (outcome.parts, outcome.own) == ({}, None)


def test_fedprox_hands_mu_on():
    assert LocalVariant.of({"mu": 0.25}).proximal == 0.25


def test_the_first_round_of_scaffold_has_no_correction_and_makes_a_control_variate():
    # K = 4 steps of eta = 0.5, delta = [-2, 4]: c_i^+ = 0 - 0 + (x - y) / (K eta) = [2, -4] / 2 = [1, -2].
    local = LocalVariant.of({"scaffold": 1.0})
    assert local.correction is None
    outcome = local.after(vector(-2, 4), steps=4, learning_rate=0.5)
    assert outcome.own.tolist() == [1.0, -2.0]
    assert outcome.parts["control"].tolist() == [1.0, -2.0]


def test_later_rounds_follow_option_ii():
    # c = [3, 0], c_i = [1, -2]: correction c - c_i = [2, 2]. delta = [-1, 1], K eta = 2:
    # c_i^+ = c_i - c + (x - y) / (K eta) = [1, -2] - [3, 0] + [0.5, -0.5] = [-1.5, -2.5]; its change is [-2.5, -0.5].
    local = LocalVariant.of({"scaffold": 1.0}, control=vector(3, 0), own=vector(1, -2))
    assert local.correction.tolist() == [2.0, 2.0]
    outcome = local.after(vector(-1, 1), steps=4, learning_rate=0.5)
    assert outcome.own.tolist() == [-1.5, -2.5]
    assert outcome.parts["control"].tolist() == [-2.5, -0.5]


def test_one_side_missing_counts_as_zeros():
    assert LocalVariant.of({"scaffold": 1.0}, control=vector(3, 0)).correction.tolist() == [3.0, 0.0]
    assert LocalVariant.of({"scaffold": 1.0}, own=vector(1, -2)).correction.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.5), (4, 0.0)])
def test_where_nothing_was_learnt_the_control_variate_stays(steps, rate):
    local = LocalVariant.of({"scaffold": 1.0}, control=vector(3, 0), own=vector(1, -2))
    outcome = local.after(vector(0, 0), steps=steps, learning_rate=rate)
    assert outcome.own.tolist() == [1.0, -2.0]
    assert outcome.parts["control"].tolist() == [0.0, 0.0]


def test_control_variates_keep_the_weights_dtype():
    control, own = np.ones(2, np.float32), np.zeros(2, np.float32)
    local = LocalVariant.of({"scaffold": 1.0}, control=control, own=own)
    outcome = local.after(np.ones(2, np.float32), steps=3, learning_rate=0.1)
    assert {local.correction.dtype, outcome.own.dtype, outcome.parts["control"].dtype} == {np.dtype(np.float32)}


def test_an_unknown_number_is_refused():
    with pytest.raises(UnknownNameError) as caught:
        LocalVariant.of({"nu": 1.0})
    assert "mu" in caught.value.hint


def test_control_variates_of_two_models_are_refused():
    with pytest.raises(ShapeError):
        _ = LocalVariant.of({"scaffold": 1.0}, control=vector(1), own=vector(1, 2)).correction


def _run(algorithm, rounds, steps=5, rate=0.1):
    """Two sites with the losses (x - 1)^2 / 2 and 3 (x + 1)^2 / 2, several local steps; return the last model."""
    curvature, centre = {"a": 1.0, "b": 3.0}, {"a": 1.0, "b": -1.0}
    server = algorithm_of(FederationSpec(algorithm=algorithm))
    model, state, own = vector(5.0), {}, {}
    for step in range(1, rounds + 1):
        updates = {}
        for site in ("a", "b"):
            local = LocalVariant.of(server.variant(), control=state.get("control"), own=own.get(site))
            place = model.copy()
            for _ in range(steps):
                gradient = curvature[site] * (place - centre[site])
                if local.correction is not None:
                    gradient = gradient + local.correction
                place = place - rate * gradient
            outcome = local.after(place - model, steps=steps, learning_rate=rate)
            own[site] = outcome.own
            updates[site] = (1.0, {"delta": place - model, **outcome.parts})
        facts = RoundFacts(step=step, cohort=2, population=2)
        model, state = fold_arrays(server, facts, updates, model, state)
    return float(model[0])


def test_scaffold_finds_the_optimum_that_drift_keeps_fedavg_from():
    # The sum of losses is least where (x - 1) + 3 (x + 1) = 0: x = -0.5. FedAvg with 5 local steps stops elsewhere.
    assert _run("scaffold", 200) == pytest.approx(-0.5, abs=1e-6)
    assert abs(_run("fedavg", 200) + 0.5) > 0.05
