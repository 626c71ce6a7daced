"""Folding: hand-checked means, blocks against wholes, memory against files, and whose update is at fault."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from archipel.data.stores.spool import Spool
from archipel.federated import means
from archipel.federated.algorithms import BUILT_IN, algorithm_of
from archipel.federated.blocks import ArrayBlocks
from archipel.federated.contribution import Contribution, NonFiniteUpdateError, ShapeUpdateError, normalised
from archipel.federated.fold import fold, fold_arrays
from archipel.federated.folding import carry_out, rejection
from archipel.federated.means import BLOCK
from archipel.federated.port import Fold, RoundFacts
from archipel.federated.robust.means import STACK_BYTES
from archipel.federated.robust.robust import robust_of
from archipel.federated.running_mean import GROUP
from archipel.federated.sums import add_sums
from archipel.spec import (
    Blob,
    NonFiniteError,
    Part,
    ShapeError,
    StateError,
    TaskError,
    UnknownNameError,
    Update,
    pack,
    parse_header,
    unpack,
)
from archipel.spec.job import FederationSpec, RobustSpec

FACTS = RoundFacts(step=1, cohort=2, population=2)


def algorithm(name="fedavg", **options):
    return algorithm_of(FederationSpec(algorithm=name, options=options))


def deltas(count, size, seed=0):
    chance = np.random.default_rng(seed)
    return {
        f"s{index:03}": (float(index + 1), {"delta": chance.standard_normal(size, dtype=np.float32)})
        for index in range(count)
    }


# ---- in memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, GROUP, GROUP + 1, 3 * GROUP + 5])
@pytest.mark.parametrize("size", [1, 1000, BLOCK, BLOCK + 1])
def test_the_mean_over_groups_and_blocks_agrees_with_double_precision(count, size):
    updates = deltas(count, size)
    model, _ = fold_arrays(algorithm(), FACTS, updates, np.zeros(size, np.float32))
    weights = np.arange(1, count + 1)
    exact = sum(w * parts["delta"].astype(np.float64) for w, (_, parts) in zip(weights, updates.values(), strict=True))
    assert np.abs(model - exact / weights.sum()).max() < 1e-6


def test_large_cohorts_keep_their_precision():
    updates = {f"s{index:05}": (1.0, {"delta": np.full(3, 0.1, np.float32)}) for index in range(10_000)}
    model, _ = fold_arrays(algorithm(), FACTS, updates, np.zeros(3, np.float32))
    assert np.abs(model - np.float32(0.1)).max() < 1e-6


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 300), st.integers(0, 1000))
def test_the_block_size_does_not_change_a_bit(block, seed):
    updates = deltas(70, 300, seed)
    model = np.random.default_rng(seed).standard_normal(300).astype(np.float32)
    whole = {name: fold_arrays(algorithm(name), FACTS, _full(updates), model) for name in BUILT_IN}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "BLOCK", block)
        for name, (expected, state) in whole.items():
            again, after = fold_arrays(algorithm(name), FACTS, _full(updates), model)
            assert again.tobytes() == expected.tobytes(), name
            assert {key: value.tobytes() for key, value in after.items()} == {
                key: value.tobytes() for key, value in state.items()
            }


def _full(updates):
    return {site: (weight, {**parts, "control": parts["delta"]}) for site, (weight, parts) in updates.items()}


def test_arguments_are_not_changed():
    updates = deltas(3, 100)
    model = np.ones(100, np.float32)
    copies = [parts["delta"].copy() for _, parts in updates.values()]
    fold_arrays(algorithm(), FACTS, updates, model)
    assert all((parts["delta"] == copy).all() for (_, parts), copy in zip(updates.values(), copies, strict=True))
    assert (model == 1).all()


def test_half_precision_is_averaged_in_single_and_double_in_double():
    half = {"a": (1.0, {"delta": np.array([0.1], np.float16)}), "b": (1.0, {"delta": np.array([0.2], np.float16)})}
    model, _ = fold_arrays(algorithm(), FACTS, half, np.zeros(1, np.float16))
    assert model.dtype == np.float16
    double = {"a": (1.0, {"delta": np.array([1e-12])}), "b": (2.0, {"delta": np.array([4e-12])})}
    model, _ = fold_arrays(algorithm(), FACTS, double, np.ones(1))
    assert model[0] == 1 + 3e-12
    _, state = fold_arrays(algorithm("fedavgm"), FACTS, half, np.zeros(1, np.float16))
    assert state["momentum"].dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, BLOCK + 6])
@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_a_non_finite_update_is_named_wherever_it_hides(value, place, weight):
    updates = deltas(70, BLOCK + 7)
    updates["s066"] = (weight, updates["s066"][1])
    updates["s066"][1]["delta"][place] = value
    with pytest.raises(NonFiniteUpdateError) as caught:
        fold_arrays(algorithm(), FACTS, updates, np.zeros(BLOCK + 7, np.float32))
    assert caught.value.site == "s066"
    assert "s066" in caught.value.message
    assert isinstance(caught.value, NonFiniteError)
    assert caught.value.hint


def test_opposite_infinities_do_not_hide_each_other():
    updates = {site: (1.0, {"delta": np.array([value])}) for site, value in (("a", np.inf), ("b", -np.inf))}
    with pytest.raises(NonFiniteUpdateError) as caught:
        fold_arrays(algorithm(), FACTS, updates, np.zeros(1))
    assert caught.value.site == "a"


def test_a_mean_that_overflows_is_nobodys_fault_but_an_error():
    updates = {site: (1.0, {"delta": np.array([3e38], np.float32)}) for site in "ab"}
    model, _ = fold_arrays(algorithm(), FACTS, updates, np.zeros(1, np.float32))
    assert np.isfinite(model).all()
    with pytest.raises(NonFiniteError, match="fedavg made a model"):
        fold_arrays(algorithm(), FACTS, updates, np.full(1, 3e38, np.float32))


def test_an_update_of_another_length_is_named():
    updates = {"a": (1.0, {"delta": np.zeros(3)}), "b": (1.0, {"delta": np.zeros(4)})}
    with pytest.raises(ShapeUpdateError) as caught:
        fold_arrays(algorithm(), FACTS, updates, np.zeros(3))
    assert caught.value.site == "b"


@pytest.mark.parametrize("weights", [[0.0, 0.0], [0.0], [float("nan"), 1.0], [float("inf")]])
def test_weights_that_add_up_to_nothing_are_an_error_with_a_hint(weights):
    with pytest.raises(TaskError) as caught:
        normalised(weights)
    assert "weighting" in caught.value.hint


def test_a_site_without_rows_does_not_move_the_model():
    updates = {"a": (0.0, {"delta": np.array([5.0])}), "b": (2.0, {"delta": np.array([1.0])})}
    assert fold_arrays(algorithm(), FACTS, updates, np.zeros(1))[0].tolist() == [1.0]


def test_a_model_without_parameters_and_integers_are_refused():
    with pytest.raises(ShapeError):
        fold_arrays(algorithm(), FACTS, {"a": (1.0, {"delta": np.zeros(0)})}, np.zeros(0))
    with pytest.raises(ShapeError, match="int64"):
        ArrayBlocks({"delta": np.zeros(3, np.int64)})


# ---- sums ---------------------------------------------------------------------------------------------------------


def test_sums_add_in_double_precision_and_keep_each_sites_own_keys():
    total = add_sums([("a", {"n": np.array([1, 2]), "alone/a|n": np.array(5.0)}), ("b", {"n": np.array([10, 20])})])
    assert total["n"].tolist() == [11.0, 22.0]
    assert total["n"].dtype == np.float64
    assert list(total) == ["alone/a|n", "n"]


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.array([np.nan, 1]), NonFiniteUpdateError),
        (np.array([1.0]), ShapeUpdateError),
        (np.array(["x", "y"]), ShapeUpdateError),
    ],
)
def test_a_sum_that_cannot_be_added_names_its_site(array, error):
    with pytest.raises(error) as caught:
        add_sums([("a", {"n": np.zeros(2)}), ("b", {"n": array})])
    assert caught.value.site == "b"


def test_adding_does_not_change_what_was_given():
    first = {"n": np.zeros(2)}
    add_sums([("a", first), ("b", {"n": np.ones(2)})])
    assert first["n"].tolist() == [0, 0]


# ---- files ----------------------------------------------------------------------------------------------------------


class Files:
    """A spool with a model and updates in it."""

    def __init__(
        self, folder: Path, name: str, *, sites=3, shapes=(("w", (3, 5)), ("b", (5,))), dtype=np.float32, robust=None
    ):
        self.spool = Spool(folder)
        self.federation = FederationSpec(algorithm=name, robust=robust)
        self.algorithm = algorithm_of(self.federation)
        self.chance = np.random.default_rng(1)
        self.shapes, self.dtype = shapes, dtype
        self.sites = [f"s{index:03}" for index in range(sites)]
        self.model = self.put(self.tensors())[0]
        self.state = None
        self.flat = self.vector(self.model)
        self.flat_state = None

    def tensors(self):
        return {name: self.chance.standard_normal(shape).astype(self.dtype) for name, shape in self.shapes}

    def put(self, arrays) -> tuple[Blob, Part]:
        data = pack(arrays)
        blob = self.spool.put(data)
        return blob, Part(blob=blob, manifest=parse_header(data)[0].digest)

    def vector(self, blob):
        return np.concatenate(
            [array.ravel() for array in unpack(self.spool.require(blob.digest).read_bytes()).values()]
        )

    def order(self, step=1) -> Fold:
        names = (*self.algorithm.weighted, *self.algorithm.uniform)
        updates = tuple(
            Update(
                run="run-1",
                round=step + 1,
                site=site,
                kind="train",
                weight=float(index + 1),
                parts={name: self.put(self.tensors())[1] for name in names},
            )
            for index, site in enumerate(self.sites)
        )
        facts = RoundFacts(step=step, cohort=len(updates), population=len(updates) + 1)
        return Fold(round=step + 1, kind="train", updates=updates, model=self.model, state=self.state, facts=facts)

    def in_memory(self, order):
        updates = {
            update.site: (update.weight, {name: self.vector(part.blob) for name, part in update.parts.items()})
            for update in order.updates
        }
        robust = robust_of(self.federation)
        return fold_arrays(self.algorithm, order.facts, updates, self.flat, self.flat_state, robust=robust)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_files_give_the_bits_that_memory_gives_over_several_rounds(tmp_path, name, dtype):
    files = Files(tmp_path, name, dtype=dtype)
    for step in (1, 2, 3):
        order = files.order(step)
        expected, state = files.in_memory(order)
        folded = carry_out(order, files.federation, files.spool)
        assert folded.round == step + 1
        assert files.vector(folded.model).tobytes() == expected.tobytes()
        if state:
            stored = unpack(files.spool.require(folded.state.digest).read_bytes())
            assert {key: value.tobytes() for key, value in stored.items()} == {
                key: value.tobytes() for key, value in state.items()
            }
        else:
            assert folded.state is None
        assert carry_out(order, files.federation, files.spool) == folded, "a fold may be repeated"
        files.model, files.state, files.flat, files.flat_state = folded.model, folded.state, expected, state


ROBUST = [
    RobustSpec(tolerate=1),
    RobustSpec(tolerate=1, rule="centred-clipping", mixing="none"),
    RobustSpec(tolerate=1, rule="median", mixing="buckets"),
]


@pytest.mark.parametrize("robust", ROBUST, ids=lambda spec: f"{spec.rule}-{spec.mixing}")
def test_files_give_the_bits_that_memory_gives_by_a_robust_rule_too(tmp_path, robust):
    files = Files(tmp_path, "scaffold", sites=9, robust=robust, shapes=(("w", (300, 50)),))
    order = files.order()
    expected, state = files.in_memory(order)
    folded = carry_out(order, files.federation, files.spool)
    assert files.vector(folded.model).tobytes() == expected.tobytes()
    assert files.vector(folded.state).tobytes() == state["control"].tobytes()
    assert carry_out(order, files.federation, files.spool) == folded, "a fold may be repeated"


@pytest.mark.parametrize("robust", ROBUST, ids=lambda spec: f"{spec.rule}-{spec.mixing}")
def test_memory_of_a_robust_rule_grows_neither_with_the_model_nor_with_the_sites(tmp_path, robust):
    def peak(sites, size):
        files = Files(tmp_path / f"{sites}-{size}", "fedavg", sites=sites, shapes=(("w", (size,)),), robust=robust)
        order = files.order()
        tracemalloc.start()
        carry_out(order, files.federation, files.spool)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    small, large = peak(100, 11_000), peak(200, 22_000)
    assert large < small + 1_000_000, f"{small} bytes, then {large}"
    assert large < 4 * STACK_BYTES


def test_the_model_is_a_tensor_file_others_can_read(tmp_path):
    files = Files(tmp_path, "fedavg")
    folded = carry_out(files.order(), files.federation, files.spool)
    read = load_file(files.spool.require(folded.model.digest))
    assert {name: array.shape for name, array in read.items()} == {"w": (3, 5), "b": (5,)}


def test_more_files_than_may_be_open_are_folded_too(tmp_path, monkeypatch):
    files = Files(tmp_path, "fedavg", sites=30)
    order = files.order()
    expected = carry_out(order, files.federation, files.spool)
    monkeypatch.setattr("archipel.federated.folding.OPEN_FILES", 5)
    before = open_files()
    assert carry_out(order, files.federation, files.spool) == expected
    assert open_files() == before


def test_memory_grows_neither_with_the_model_nor_with_the_sites(tmp_path):
    def peak(sites, size):
        files = Files(tmp_path / f"{sites}-{size}", "scaffold", sites=sites, shapes=(("w", (size,)),))
        order = files.order()
        tracemalloc.start()
        carry_out(order, files.federation, files.spool)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    small, large = peak(2, 2 * BLOCK), peak(10, 12 * BLOCK)
    assert large < small + 100_000, f"{small} bytes, then {large}"
    assert large < 16 * BLOCK * 4


def test_manifests_of_many_sites_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("archipel.federated.folding.OPEN_FILES", 5)
    shapes = tuple((f"layer-{index}", (2,)) for index in range(200))

    def peak(sites):
        files = Files(tmp_path / str(sites), "fedavg", sites=sites, shapes=shapes)
        order = files.order()
        tracemalloc.start()
        carry_out(order, files.federation, files.spool)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    assert peak(50) - peak(10) < 40 * 3_000, "a manifest of 200 tensors takes 60 kB"


def test_no_descriptor_stays_open_after_a_failure(tmp_path):
    files = Files(tmp_path, "fedavg")
    order = files.order()
    files.spool.drop(order.updates[2].parts["delta"].blob.digest)
    before = open_files()
    with pytest.raises(StateError):
        carry_out(order, files.federation, files.spool)
    assert open_files() == before


def _replaced(order, site, part):
    updates = tuple(
        update
        if update.site != site
        else Update(
            run=update.run,
            round=update.round,
            site=site,
            kind=update.kind,
            weight=update.weight,
            parts={**update.parts, "delta": part},
        )
        for update in order.updates
    )
    return Fold(
        round=order.round, kind=order.kind, updates=updates, model=order.model, state=order.state, facts=order.facts
    )


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"w": np.zeros((5, 3), np.float32), "b": np.zeros(5, np.float32)}, "ShapeError"),
        ({"b": np.zeros(5, np.float32), "w": np.zeros((3, 5), np.float32)}, "ShapeError"),
        ({"w": np.zeros((3, 5)), "b": np.zeros(5)}, "ShapeError"),
        ({"w": np.zeros((3, 5), np.float32), "b": np.zeros(5, np.float64)}, "ShapeError"),
        ({"w": np.zeros((3, 5), np.int32), "b": np.zeros(5, np.int32)}, "ShapeError"),
        ({"w": np.full((3, 5), np.nan, np.float32), "b": np.zeros(5, np.float32)}, "NonFiniteError"),
    ],
)
def test_an_unusable_file_becomes_a_rejection_in_the_sites_name(tmp_path, arrays, error):
    files = Files(tmp_path, "fedavg")
    order = files.order()
    bad = _replaced(order, "s001", files.put(arrays)[1])
    with pytest.raises((ShapeUpdateError, NonFiniteUpdateError)) as caught:
        carry_out(bad, files.federation, files.spool)
    refusal = rejection(bad, caught.value).refusal
    assert (refusal.site, refusal.error, refusal.round) == ("s001", error, 2)
    assert refusal.hint
    assert carry_out(order, files.federation, files.spool), "the good updates still fold"


@pytest.mark.parametrize("cut", [0, 4, 20, 80, 100])
def test_a_file_cut_short_is_the_sites_fault(tmp_path, cut):
    files = Files(tmp_path, "fedavg")
    order = files.order()
    data = files.spool.require(order.updates[0].parts["delta"].blob.digest).read_bytes()
    bad = _replaced(order, "s000", Part(blob=files.spool.put(data[:cut])))
    with pytest.raises(ShapeUpdateError) as caught:
        carry_out(bad, files.federation, files.spool)
    assert caught.value.site == "s000"


def _sums_order(files, kind, *sums):
    updates = tuple(
        Update(run="run-1", round=1, site=site, kind=kind, parts={"sums": files.put(arrays)[1]})
        for site, arrays in zip(files.sites, sums, strict=False)
    )
    facts = RoundFacts(step=0, cohort=len(updates), population=len(updates))
    return Fold(round=1, kind=kind, updates=updates, model=None, state=None, facts=facts)


@pytest.mark.parametrize("kind", ["statistics", "evaluate"])
def test_sums_of_files_are_added(tmp_path, kind):
    files = Files(tmp_path, "fedavg")
    order = _sums_order(files, kind, {"n": np.array([1.0, 2.0])}, {"n": np.array([3.0, 4.0])}, {})
    folded = carry_out(order, files.federation, files.spool)
    assert folded.model is None
    assert unpack(files.spool.require(folded.sums.digest).read_bytes())["n"].tolist() == [4.0, 6.0]


def test_sums_that_are_not_tensors_are_the_sites_fault(tmp_path):
    files = Files(tmp_path, "fedavg")
    good = _sums_order(files, "statistics", {"n": np.ones(1)}).updates[0]
    junk = Update(
        run="run-1", round=1, site="s001", kind="statistics", parts={"sums": Part(blob=files.spool.put(b"junk"))}
    )
    facts = RoundFacts(step=0, cohort=2, population=2)
    order = Fold(round=1, kind="statistics", updates=(good, junk), model=None, state=None, facts=facts)
    with pytest.raises(ShapeUpdateError) as caught:
        carry_out(order, files.federation, files.spool)
    assert caught.value.site == "s001"


def test_sums_too_large_to_be_sums_are_not_read(tmp_path, monkeypatch):
    files = Files(tmp_path, "fedavg")
    order = _sums_order(files, "evaluate", {"n": np.ones(10)}, {"n": np.ones(1000)})
    monkeypatch.setattr("archipel.federated.folding.MAX_SUMS_BYTES", 1000)
    with pytest.raises(ShapeUpdateError) as caught:
        carry_out(order, files.federation, files.spool)
    assert caught.value.site == "s001"


def _initial_order(files, arrays, manifest=None):
    part = files.put(arrays)[1]
    if manifest is not None:
        part = Part(blob=part.blob, manifest=manifest)
    update = Update(run="run-1", round=1, site="s000", kind="initialise", parts={"model": part})
    facts = RoundFacts(step=0, cohort=1, population=1)
    return Fold(round=1, kind="initialise", updates=(update,), model=None, state=None, facts=facts)


def test_the_first_model_is_the_first_sites(tmp_path):
    files = Files(tmp_path, "fedavg")
    order = _initial_order(files, {"w": np.ones(3, np.float32)})
    assert carry_out(order, files.federation, files.spool).model == order.updates[0].parts["model"].blob


def test_the_first_model_is_the_one_that_most_sites_made(tmp_path):
    files = Files(tmp_path, "fedavg")
    odd, usual = (_initial_order(files, {"w": np.full(2, value, np.float32)}).updates[0] for value in (9, 1))
    updates = (odd, *(msgspec.structs.replace(usual, site=site) for site in ("y", "z")))
    order = msgspec.structs.replace(_initial_order(files, {"w": np.ones(2, np.float32)}), updates=updates)
    assert carry_out(order, files.federation, files.spool).model == usual.parts["model"].blob


def test_a_first_model_that_cannot_be_trained_is_refused(tmp_path):
    files = Files(tmp_path, "fedavg")
    with pytest.raises(NonFiniteUpdateError):
        carry_out(_initial_order(files, {"w": np.array([np.inf], np.float32)}), files.federation, files.spool)
    with pytest.raises(ShapeUpdateError):
        carry_out(
            _initial_order(files, {"w": np.ones(1, np.float32)}, "sha256:" + "0" * 64), files.federation, files.spool
        )
    with pytest.raises(ShapeError):
        carry_out(_initial_order(files, {"w": np.ones(2, np.int64)}), files.federation, files.spool)
    with pytest.raises(ShapeError, match="no parameters"):
        carry_out(_initial_order(files, {"w": np.ones(0, np.float32)}), files.federation, files.spool)


def test_an_unknown_kind_of_fold_is_refused(tmp_path):
    files = Files(tmp_path, "fedavg")
    with pytest.raises(UnknownNameError):
        carry_out(_sums_order(files, "export", {"n": np.ones(1)}), files.federation, files.spool)


def test_contributions_may_be_any_reader():
    class Constant:
        count, dtype = 5, np.dtype(np.float32)

        def read(self, name, start, stop, scratch):
            scratch[: stop - start] = 2.0
            return scratch[: stop - start]

    target = {"model": np.zeros(5, np.float32)}
    fold(
        algorithm(),
        FACTS,
        [Contribution(site="b", weight=1.0, parts=Constant()), Contribution(site="a", weight=1.0, parts=Constant())],
        model_in=ArrayBlocks({"model": np.ones(5, np.float32)}),
        state_in=None,
        model_out=ArrayBlocks(target),
        state_out=None,
    )
    assert target["model"].tolist() == [3.0] * 5
