"""Each algorithm against rounds worked by hand, against the published laws, and against its neighbours' limits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.federated.algorithms import BUILT_IN, algorithm_of
from archipel.federated.conformance import LAWS
from archipel.federated.fit import require_fit
from archipel.federated.fold import fold_arrays
from archipel.federated.port import RoundFacts
from archipel.spec import LocalTraining, SpecError, TaskError, UnknownNameError
from archipel.spec.job import FederationSpec


def make(name, **options):
    return algorithm_of(FederationSpec(algorithm=name, options=options))


def vector(*values):
    return np.array(values, dtype=np.float64)


def facts(step=1, cohort=2, population=2):
    return RoundFacts(step=step, cohort=cohort, population=population)


TWO = {"a": (1.0, {"delta": vector(1.0, 0.0)}), "b": (3.0, {"delta": vector(2.0, -4.0)})}
# mean delta = (1 * [1, 0] + 3 * [2, -4]) / 4 = [1.75, -3]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_algorithm_keeps_every_law(name, law):
    law(make(name))


def test_fedavg_adds_the_mean_weighted_by_examples():
    model, state = fold_arrays(make("fedavg"), facts(), TWO, vector(10.0, 10.0))
    assert model.tolist() == [11.75, 7.0]
    assert state == {}


def test_fedavgm_carries_momentum_from_round_to_round():
    # beta = 0.5, eta = 2.  Round 1: v = [1.75, -3], w = 10 + 2 v = [13.5, 4].
    # Round 2, same updates: v = 0.5 [1.75, -3] + [1.75, -3] = [2.625, -4.5], w = [13.5 + 5.25, 4 - 9] = [18.75, -5].
    algorithm = make("fedavgm", momentum=0.5, server_learning_rate=2.0)
    model, state = fold_arrays(algorithm, facts(1), TWO, vector(10.0, 10.0))
    assert model.tolist() == [13.5, 4.0]
    model, state = fold_arrays(algorithm, facts(2), TWO, model, state)
    assert state["momentum"].tolist() == [2.625, -4.5]
    assert model.tolist() == [18.75, -5.0]


def test_fedadam_is_algorithm_2_of_adaptive_federated_optimization():
    # beta_1 = beta_2 = 0.5, tau = 1, eta = 1; one site with delta 2 in round 1 and 0 in round 2; x_0 = 0.
    # v_{-1} = tau^2 = 1.  Round 1: m = 1, v = 0.5 + 0.5 * 4 = 2.5, x = 1 / (sqrt(2.5) + 1) = 0.38742588672279304.
    # Round 2: m = 0.5, v = 1.25, x = 0.38742588672279304 + 0.5 / (sqrt(1.25) + 1) = 0.6234938809...
    algorithm = make("fedadam", beta1=0.5, beta2=0.5, tau=1.0, server_learning_rate=1.0)
    model, state = fold_arrays(algorithm, facts(1), {"a": (1.0, {"delta": vector(2.0)})}, vector(0.0))
    assert (state["momentum"][0], state["variance"][0]) == (1.0, 2.5)
    assert model[0] == pytest.approx(0.38742588672279304, abs=1e-15)
    model, state = fold_arrays(algorithm, facts(2), {"a": (1.0, {"delta": vector(0.0)})}, model, state)
    assert (state["momentum"][0], state["variance"][0]) == (0.5, 1.25)
    assert model[0] == pytest.approx(0.38742588672279304 + 0.5 / 2.118033988749895, abs=1e-15)


def test_fedyogi_moves_its_second_moment_by_sign():
    # As above with Yogi. Round 1: v = 1 - 0.5 * 4 * sign(1 - 4) = 1 + 2 = 3, m = 1, x = 1 / (sqrt(3) + 1).
    # Round 2, delta 1: v = 3 - 0.5 * 1 * sign(3 - 1) = 2.5, m = 0.5 * 1 + 0.5 * 1 = 1, x += 1 / (sqrt(2.5) + 1).
    algorithm = make("fedyogi", beta1=0.5, beta2=0.5, tau=1.0, server_learning_rate=1.0)
    model, state = fold_arrays(algorithm, facts(1), {"a": (1.0, {"delta": vector(2.0)})}, vector(0.0))
    assert state["variance"][0] == 3.0
    assert model[0] == pytest.approx(1 / 2.732050807568877, abs=1e-15)
    model, state = fold_arrays(algorithm, facts(2), {"a": (1.0, {"delta": vector(1.0)})}, model, state)
    assert (state["momentum"][0], state["variance"][0]) == (1.0, 2.5)
    assert model[0] == pytest.approx(1 / 2.732050807568877 + 1 / 2.58113883008419, abs=1e-15)


def test_scaffold_weighs_models_by_examples_and_control_variates_equally():
    # |S| = 2 of N = 4, eta_g = 0.5. x = 10 + 0.5 * [1.75, -3] = [10.875, 8.5].
    # mean control change = ([1, 0] + [3, 2]) / 2 = [2, 1]; c = 0 + 2/4 * [2, 1] = [1, 0.5]; again: [2, 1].
    algorithm = make("scaffold", server_learning_rate=0.5)
    updates = {
        "a": (1.0, {"delta": vector(1.0, 0.0), "control": vector(1.0, 0.0)}),
        "b": (3.0, {"delta": vector(2.0, -4.0), "control": vector(3.0, 2.0)}),
    }
    some = facts(1, cohort=2, population=4)
    model, state = fold_arrays(algorithm, some, updates, vector(10.0, 10.0))
    assert model.tolist() == [10.875, 8.5]
    assert state["control"].tolist() == [1.0, 0.5]
    _, state = fold_arrays(algorithm, some, updates, model, state)
    assert state["control"].tolist() == [2.0, 1.0]


def test_variants_carry_what_sites_need():
    assert make("fedprox", mu=0.25).variant() == {"mu": 0.25}
    assert make("scaffold").variant() == {"scaffold": 1.0}
    assert make("fedavg").variant() == {}


floats = st.floats(-1e3, 1e3, width=32)
rounds = st.integers(1, 6).flatmap(
    lambda sites: st.tuples(
        st.lists(st.floats(0.5, 1e4), min_size=sites, max_size=sites),
        st.lists(st.lists(floats, min_size=4, max_size=4), min_size=sites, max_size=sites),
        st.permutations(range(sites)),
    )
)


def as_updates(weights, deltas):
    return {
        f"s{index}": (weight, {"delta": np.array(delta, np.float32)})
        for index, (weight, delta) in enumerate(zip(weights, deltas, strict=True))
    }


@given(rounds)
def test_arrival_order_does_not_change_a_bit(case):
    weights, deltas, order = case
    updates = as_updates(weights, deltas)
    names = list(updates)
    shuffled = {names[index]: updates[names[index]] for index in order}
    model = np.ones(4, np.float32)
    assert (
        fold_arrays(make("fedavg"), facts(), updates, model)[0].tobytes()
        == fold_arrays(make("fedavg"), facts(), shuffled, model)[0].tobytes()
    )


@given(st.lists(floats, min_size=4, max_size=4), st.lists(st.floats(0.5, 1e4), min_size=1, max_size=200))
def test_the_mean_of_equal_updates_is_that_update(delta, weights):
    updates = as_updates(weights, [delta] * len(weights))
    model, _ = fold_arrays(make("fedavg"), facts(), updates, np.zeros(4, np.float32))
    assert np.allclose(model, np.array(delta, np.float32), rtol=1e-5, atol=1e-30)


@given(rounds)
def test_fedprox_without_mu_and_fedavgm_without_momentum_are_fedavg(case):
    weights, deltas, _ = case
    updates = as_updates(weights, deltas)
    model = np.linspace(-1, 1, 4, dtype=np.float32)
    expected = fold_arrays(make("fedavg"), facts(), updates, model)[0].tobytes()
    prox, plain = make("fedprox", mu=0.0), make("fedavgm", momentum=0.0, server_learning_rate=1.0)
    assert prox.variant()["mu"] == 0.0
    assert fold_arrays(prox, facts(), updates, model)[0].tobytes() == expected
    assert fold_arrays(plain, facts(), updates, model)[0].tobytes() == expected


@given(rounds)
def test_the_mean_agrees_with_numpy_in_double_precision(case):
    weights, deltas, _ = case
    updates = as_updates(weights, deltas)
    model, _ = fold_arrays(make("fedavg"), facts(), updates, np.zeros(4, np.float32))
    expected = np.average(np.array(deltas, np.float64), axis=0, weights=weights)
    assert np.allclose(model, expected, rtol=1e-5, atol=1e-6 * np.abs(deltas).max())


@dataclass(frozen=True)
class Bad:
    algorithm: str
    options: dict[str, float]
    error: type[Exception]
    says: str
    local: dict = field(default_factory=dict)


@pytest.mark.parametrize(
    "bad",
    [
        Bad("fedprox", {"nu": 0.1}, UnknownNameError, "mu"),
        Bad("fedavg", {"mu": 0.1}, UnknownNameError, "no options"),
        Bad("fedavgm", {"momentun": 0.1}, UnknownNameError, "momentum"),
        Bad("fedprox", {"mu": -0.1}, SpecError, "mu"),
        Bad("fedavgm", {"momentum": 1.0}, SpecError, "momentum"),
        Bad("fedadam", {"tau": 0.0}, SpecError, "tau"),
        Bad("fedyogi", {"beta2": 1.5}, SpecError, "beta2"),
        Bad("scaffold", {"server_learning_rate": 0.0}, SpecError, "server_learning_rate"),
        Bad("scaffold", {}, SpecError, "plain local SGD", {"momentum": 0.9}),
        Bad("scaffold", {}, SpecError, "plain local SGD", {"optimizer": "adam"}),
    ],
    ids=lambda bad: f"{bad.algorithm}-{bad.options or bad.local}",
)
def test_bad_options_are_refused_with_the_next_step(bad):
    local = LocalTraining(**bad.local)
    with pytest.raises(bad.error) as caught:
        algorithm_of(FederationSpec(algorithm=bad.algorithm, options=bad.options, local=local))
    assert bad.says in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("fedavg", {}, True),
        ("fedprox", {"mu": 0.5}, True),
        ("fedavgm", {"momentum": 0.0}, True),
        ("fedavgm", {"momentum": 0.5}, False),
        ("fedavgm", {"momentum": 0.0, "server_learning_rate": 1.5}, False),
        ("scaffold", {}, True),
        ("scaffold", {"server_learning_rate": 0.5}, False),
        ("fedadam", {"server_learning_rate": 1.0, "beta1": 0.0}, False),
        ("fedyogi", {}, False),
    ],
)
def test_running_statistics_go_with_a_plain_mean_alone(name, options, plain):
    federation = FederationSpec(algorithm=name, options=options)
    require_fit(federation, buffers=(), multipliers={})
    if plain:
        require_fit(federation, buffers=("norm.running_var",), multipliers={})
        return
    with pytest.raises(TaskError, match=rf"'norm\.running_var'.*{name}") as caught:
        require_fit(federation, buffers=("norm.running_var",), multipliers={})
    assert "LayerNorm" in caught.value.hint


def test_scaffold_takes_one_learning_rate_for_the_whole_model():
    rates = {"encoder.": 0.1, "head.": 1.0}
    require_fit(FederationSpec(), buffers=(), multipliers=rates)
    scaffold = FederationSpec(algorithm="scaffold")
    require_fit(scaffold, buffers=(), multipliers={"head.": 1.0})
    with pytest.raises(TaskError, match=r"'encoder\.' 0\.1 times") as caught:
        require_fit(scaffold, buffers=(), multipliers=rates)
    assert caught.value.hint


def test_an_unknown_algorithm_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError) as caught:
        algorithm_of(FederationSpec(algorithm="fedprx"))
    assert "fedprox" in caught.value.hint


def test_non_finite_options_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(SpecError):
            make("fedprox", mu=value)


class Forgetful:
    """Breaks several laws: writes into its argument, mixes columns, drops its state."""

    name = "forgetful"
    weighted = ("delta",)
    uniform = ()
    state = ("memory",)
    sent = ()

    def variant(self):
        return {}

    def apply(self, facts, model, means, state):
        means["delta"][:] = means["delta"] - means["delta"].mean()
        return model + means["delta"], {}


def test_the_laws_catch_an_algorithm_that_breaks_them():
    broken = []
    for law in LAWS:
        try:
            law(Forgetful())
        except (AssertionError, ValueError):
            broken.append(law.__name__)
    assert {"apply_returns_blocks_like_its_arguments", "apply_changes_no_argument"} <= set(broken)
    assert "blocks_give_what_the_whole_gives" in broken
