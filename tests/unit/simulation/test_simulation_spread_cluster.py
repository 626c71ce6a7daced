"""Cohorts over a real Ray cluster of two nodes: the same bytes as here alone, also when a node or a worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster as RealCluster

from archipel.simulation.spread.choice import OverRay, spread_over
from archipel.simulation.spread.cluster import Cluster, connected
from archipel.spec import DataError, StateError, digest_of
from archipel.tasks.executors import open_executor
from points import Case, case, inline

pytestmark = [
    pytest.mark.timeout(120),
    # Ray forks to run other programs at once, and JAX, where other tests loaded it, warns of any fork.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RealCluster]:
    """Two nodes of one CPU each."""
    cluster = RealCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    os.environ.pop("RAY_ADDRESS")
    if before is not None:
        os.environ["RAY_ADDRESS"] = before
    cluster.shutdown()


def spread(known: Case, place: Path, *, kill: bool = False) -> tuple[str, int]:
    """Run the job over the cluster; return its model's digest and the number of actors."""
    run = known.run(place / "controls")
    loop = open_executor("loop", known.adapter)
    over = spread_over(OverRay(None), loop, known.opening(), like=run.weights.vector, cohort=25, place=place)
    with over as (executor, count):
        for _ in run.rounds(executor):
            if kill:
                ours = psutil.Process().children(recursive=True)
                words = {one.pid: one.as_dict(["cmdline"], ad_value=[])["cmdline"] for one in ours}
                os.kill(next(pid for pid, line in words.items() if "ray::Remote" in line[:1]), signal.SIGKILL)
    return digest_of(run.packed()), count


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_two_nodes_give_the_bytes_of_one_process(tmp_path, nodes, algorithm):
    known = case(tmp_path, algorithm=algorithm)
    assert spread(known, tmp_path / "spread") == (inline(known), 2)


def test_a_killed_worker_costs_a_retry_and_not_the_run(tmp_path, nodes):
    known = case(tmp_path)
    assert spread(known, tmp_path / "spread", kill=True) == (inline(known), 2)


def test_a_node_that_dies_within_a_round_costs_a_retry_and_not_the_run(tmp_path, nodes):
    known = case(tmp_path)
    node = nodes.add_node(num_cpus=1)
    run = known.run(tmp_path / "controls")
    with connected(None), Cluster(known.opening(), known.bundle(), like=run.weights.vector, cohort=25) as executor:
        assert executor.count == 3
        plans = run.plans(1)
        got = []
        for number, one in enumerate(executor.train(run.weights, plans)):
            if number == 0:
                nodes.remove_node(node, allow_graceful=False)
            got.append(one.delta)
    expected = [one.delta for one in open_executor("loop", known.adapter).train(run.weights, plans)]
    assert len(got) == len(expected) == 25
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_rows_that_a_node_sees_otherwise_are_refused(tmp_path, nodes):
    known = case(tmp_path)
    np.savez(known.rows / "points.npz", x=np.zeros(9), side=np.zeros(9, int))
    with pytest.raises(DataError, match="are others here"):
        spread(known, tmp_path / "spread")


def test_an_address_where_nothing_answers_is_named():
    with (
        pytest.raises(StateError, match=r"no Ray cluster answers at ray://127.0.0.1:9"),
        connected("ray://127.0.0.1:9"),
    ):
        pass
    assert not ray.is_initialized()
