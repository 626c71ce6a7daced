"""Assignments against all there are, and what a bound promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from archipel.planner import assignment, search
from archipel.planner.assignment import Assignment, Instance, assign
from archipel.planner.relaxation import price_out
from archipel.planner.solver import Program, solve


def draw(seed, *, jobs=None, machines=None):
    """A small instance with whole times and costs, some pairs forbidden, some with a deadline or a budget."""
    chance = np.random.default_rng(seed)
    jobs, machines = jobs or chance.integers(1, 6), machines or chance.integers(1, 5)
    seconds = chance.integers(1, 30, size=(jobs, machines)).astype(float)
    seconds[chance.random((jobs, machines)) < 0.2] = np.inf
    cost = chance.integers(0, 20, size=(jobs, machines)).astype(float)
    deadline = float(chance.integers(10, 80)) if chance.random() < 0.5 else np.inf
    budget = float(chance.integers(5, 20 * jobs)) if chance.random() < 0.5 else np.inf
    return Instance(seconds=seconds, cost=cost, deadline=deadline, budget=budget)


def brute_force(instance, objective):
    """The best value over all assignments; infinity where none is allowed."""
    jobs, machines = instance.seconds.shape
    best = np.inf
    for chosen in itertools.product(range(machines), repeat=jobs):
        loads = np.zeros(machines)
        np.add.at(loads, list(chosen), instance.seconds[range(jobs), chosen])
        cost = instance.cost[range(jobs), chosen].sum()
        if loads.max() <= instance.deadline and cost <= instance.budget and np.isfinite(loads.max()):
            best = min(best, loads.max() if objective == "time" else cost)
    return best


@pytest.mark.parametrize("objective", ["time", "cost"])
def test_500_small_instances_come_out_as_by_brute_force(objective):
    infeasible = 0
    for seed in range(250):
        instance = draw(seed + (1000 if objective == "cost" else 0))
        best = brute_force(instance, objective)
        found = assign(instance, objective=objective, seconds=20)
        infeasible += not np.isfinite(best)
        assert found.value == pytest.approx(best), seed
        assert found.status == ("feasible" if np.isfinite(best) else "infeasible")
        assert found.bound == pytest.approx(best)
    assert 25 < infeasible < 200  # both kinds are met


def test_local_search_and_branch_and_bound_together_agree_with_brute_force(monkeypatch):
    monkeypatch.setattr(assignment, "_EXACT", 0)
    monkeypatch.setattr(search, "_PATIENCE", 5)
    for seed in range(12):
        instance = draw(seed)
        for objective in ("time", "cost"):
            best = brute_force(instance, objective)
            found = assign(instance, objective=objective, seconds=20)
            assert found.value == pytest.approx(best), (seed, objective)


def test_the_bound_of_the_relaxation_is_nearly_that_of_its_linear_program():
    seconds = draw(4, jobs=60, machines=8).seconds
    job, machine = np.nonzero(np.isfinite(seconds))
    count, jobs, machines = len(job), *seconds.shape
    rows = [job, jobs + machine, jobs + np.arange(machines)]
    columns = [np.arange(count), np.arange(count), np.full(machines, count)]
    program = Program(
        cost=np.append(np.zeros(count), 1.0),
        upper=np.append(np.ones(count), np.inf),
        whole=np.zeros(count + 1, bool),
        row=np.concatenate(rows).astype(np.int32),
        column=np.concatenate(columns).astype(np.int32),
        entry=np.concatenate([np.ones(count), seconds[job, machine], -np.ones(machines)]),
        low=np.append(np.ones(jobs), np.full(machines, -np.inf)),
        high=np.append(np.ones(jobs), np.zeros(machines)),
    )
    exact = solve(program, seconds=20).value
    bound, share = price_out(seconds, more=lambda: True)
    assert 0.97 * exact < bound <= exact * (1 + 1e-9)
    assert share.sum(axis=1) == pytest.approx(np.ones(jobs))
    assert (share[~np.isfinite(seconds)] == 0).all()


def check(instance: Instance, found: Assignment) -> None:
    jobs, machines = instance.seconds.shape
    loads = np.zeros(machines)
    np.add.at(loads, found.machines, instance.seconds[range(jobs), found.machines])
    assert np.isfinite(loads).all()
    assert loads.max() == pytest.approx(found.value)
    assert found.bound <= found.value


def test_a_larger_instance_keeps_its_bound_below_its_value():
    found = assign(instance := draw(3, jobs=80, machines=12), seconds=0.5)
    if found.status == "feasible":
        check(instance, found)
    open_ended = Instance(seconds=instance.seconds)
    found = assign(open_ended, seconds=0.5)
    check(open_ended, found)
    assert found.gap < 0.5


def test_a_search_without_time_says_what_it_has():
    instance = Instance(seconds=draw(5, jobs=60, machines=15).seconds)
    ticks = iter(range(10**9))
    found = assign(instance, seconds=0.0, clock=lambda: float(next(ticks)))
    assert found.status in {"feasible", "unknown"}
    assert found.bound <= found.value


def test_one_long_job_bounds_what_splitting_would_not():
    seconds = np.ones((40, 20))
    seconds[0] = 100
    found = assign(Instance(seconds=seconds), seconds=5)
    assert (found.value, found.bound, found.gap) == (100, 100, 0)


def test_a_job_nobody_may_take_is_infeasible():
    assert assign(Instance(seconds=np.array([[1.0, 2.0], [np.inf, np.inf]]))).status == "infeasible"
