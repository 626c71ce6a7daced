"""Who shares masks with whom: on a ring of known order, and the laws of any graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.security.secagg import Graph

RING = Graph(tuple("gbeacfd"), 1, complete=False)  # g b e a c f d, and around to g


def test_on_a_ring_the_neighbours_are_those_beside_a_site() -> None:
    assert RING.neighbours("a") == ("c", "e")
    assert RING.neighbours("g") == ("b", "d")
    assert RING.holders("g") == ("b", "d")
    assert RING.point("g", "d") == 2


def test_in_a_small_cohort_everybody_is_a_neighbour_and_holds_a_share_of_its_own() -> None:
    graph = Graph.of("cab", members=3, neighbours=2, context=bytes(32))
    assert graph.sites == ("a", "b", "c")
    assert graph.neighbours("b") == ("a", "c")
    assert graph.holders("b") == ("a", "b", "c")
    assert graph.point("b", "c") == 3


def test_the_order_on_the_ring_follows_from_the_session_alone() -> None:
    sites = [f"s{index}" for index in range(80)]
    first, again, other = (
        Graph.of(order, members=80, neighbours=6, context=context)
        for order, context in ((sites, bytes(32)), (sites[::-1], bytes(32)), (sites, b"\x01" * 32))
    )
    assert all(first.neighbours(site) == again.neighbours(site) for site in sites)
    assert sum(first.neighbours(site) == other.neighbours(site) for site in sites) < 5


@given(
    members=st.integers(3, 90),
    here=st.integers(3, 90),
    half=st.integers(1, 40),
    context=st.binary(min_size=32, max_size=32),
)
def test_neighbours_are_mutual_nobody_is_its_own_and_each_has_as_many(members, here, half, context) -> None:
    sites = [f"s{index}" for index in range(min(here, members))]
    graph = Graph.of(sites, members=members, neighbours=2 * half, context=context)
    degree = len(sites) - 1 if members <= 64 else min(2 * half, len(sites) - 1)
    for site in sites:
        near = graph.neighbours(site)
        assert site not in near
        assert len(near) == len(set(near)) == degree
        assert all(site in graph.neighbours(peer) for peer in near)
        assert [graph.point(site, holder) for holder in graph.holders(site)] == [
            *range(1, len(graph.holders(site)) + 1)
        ]
