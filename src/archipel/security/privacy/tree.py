"""How far one unit can move all the nodes of DP-FTRL's tree together.

    squared_sensitivity(steps=2000, participations=6, separation=313)     # 79

The tree has a node for each complete block of 2^l steps; a unit that takes part in n steps of a block moves its node
by n. What is looked for is the largest sum of n^2 over nodes, over all ways to take part at most `participations`
times with `separation` steps between one and the next (Kairouz et al. 2021, arXiv:2103.00039, section 4.1, without
restarts; Choquette-Choo et al. 2023, arXiv:2306.08153, for the participation schema).

The largest sum follows from which small blocks are taken part in, not from where in them; so each is entered as early
as the separation allows, and a search over blocks keeps of each only the outcomes no other one beats.
"""

from __future__ import annotations

from functools import cache

Outcome = tuple[int, int]
"""(sum of n^2 so far, first step that the next participation may have)."""


def squared_sensitivity(*, steps: int, participations: int, separation: int) -> int:
    """Return the largest squared L2 change of all nodes, for a contribution of norm 1 a step."""
    size = 1 << (steps - 1).bit_length()
    gap = separation

    @cache
    def outcomes(start: int, size: int, count: int, ready: int) -> tuple[Outcome, ...]:
        """Take part exactly `count` times in the block, not before step `ready`."""
        if count == 0:
            return ((0, ready),)
        first, complete = max(start, ready), start + size <= steps
        if start >= steps or first + (count - 1) * gap >= start + size:
            return ()
        if count == 1 and complete:
            return ((size.bit_length(), first + gap),)
        half = size // 2
        found: list[Outcome] = []
        for left in range(count + 1):
            for value, after in outcomes(start, half, left, first):
                for more, end in outcomes(start + half, half, count - left, max(after, start + half)):
                    found.append((value + more + complete * count**2, end))
        return _best(found)

    ways = (way for count in range(1, participations + 1) for way in outcomes(0, size, count, 0))
    return max(value for value, _ in ways)


def _best(found: list[Outcome]) -> tuple[Outcome, ...]:
    """Keep of the outcomes those that no other beats in both value and readiness."""
    kept: list[Outcome] = []
    for value, ready in sorted(found, key=lambda one: (one[1], -one[0])):
        if not kept or value > kept[-1][0]:
            kept.append((value, ready))
    return tuple(kept)
