"""Links as a graph: the narrowest link of the best path, and what all paths together carry.

    graph = Graph(links)
    graph.widest_path("hall", "clinic")     # in series, the narrowest link decides
    graph.max_flow("hall", "clinic")        # striped over all paths (Edmonds and Karp, J. ACM 19(2), 1972)

Each link is as fast in both directions at once. The mean of links is the speed of nothing, and is not computed here.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from archipel.spec.fleet import Link
from archipel.spec.quantities import Bandwidth


class Graph:
    """Places and the links between them; parallel links add up."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = tuple(links)

    def widest_path(self, source: str, target: str) -> tuple[Bandwidth | None, tuple[str, ...]]:
        """Return the path whose narrowest link is fastest, and that link's speed; None and () where there is none."""
        reached: dict[str, tuple[float, str]] = {}
        queue: list[tuple[float, str, str]] = [(-float("inf"), source, "")]
        while queue:
            width, place, before = heapq.heappop(queue)
            if place in reached:
                continue
            reached[place] = (-width, before)
            for link in self._links:
                if place in link.ends:
                    other = link.ends[1] if link.ends[0] == place else link.ends[0]
                    heapq.heappush(queue, (max(width, -link.bandwidth.value), other, place))
        if target not in reached or source == target:
            return None, ()
        path = [target]
        while path[-1] != source:
            path.append(reached[path[-1]][1])
        return self._shown(reached[target][0]), tuple(reversed(path))

    def max_flow(self, sources: str | Iterable[str], targets: str | Iterable[str]) -> Bandwidth | None:
        """Return what all paths between two sets of places carry at once; None where there is none."""
        starts, ends = _as_set(sources), _as_set(targets)
        room: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for link in self._links:
            one, other = link.ends
            room[one][other] += link.bandwidth.value
            room[other][one] += link.bandwidth.value
        flow = 0.0
        while not starts & ends and (path := _shortest(room, starts, ends)):
            steps = list(pairwise(path))
            added = min(room[a][b] for a, b in steps)
            for a, b in steps:
                room[a][b] -= added
                room[b][a] += added
            flow += added
        return self._shown(flow) if flow else None

    def _shown(self, value: float) -> Bandwidth:
        return Bandwidth(value, unit=self._links[0].bandwidth.unit)


def in_series(links: Sequence[Link]) -> Bandwidth:
    """Return what one path over all the links carries: the narrowest of them."""
    return min(link.bandwidth for link in links)


def striped(links: Sequence[Link]) -> Bandwidth:
    """Return what all the links carry beside each other: their sum."""
    total = links[0].bandwidth
    for link in links[1:]:
        total += link.bandwidth
    return total


def _as_set(places: str | Iterable[str]) -> set[str]:
    return {places} if isinstance(places, str) else set(places)


def _shortest(room: dict[str, dict[str, float]], starts: set[str], ends: set[str]) -> list[str]:
    before = dict.fromkeys(sorted(starts), "")
    queue = deque(before)
    while queue:
        place = queue.popleft()
        if place in ends:
            path = [place]
            while before[path[-1]]:
                path.append(before[path[-1]])
            return path[::-1]
        for other in sorted(room[place]):
            if room[place][other] > 0 and other not in before:
                before[other] = place
                queue.append(other)
    return []
