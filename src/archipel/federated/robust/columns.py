"""Mean of the middle of each column: all of trimmed mean and median, several times as fast as np.median.

    middle_mean(rows, 2)                 # (rows, columns) → (columns,): without the 2 largest and the 2 smallest
    middle_mean(rows, (len(rows) - 1) // 2)       # the median

A few rows are put in order by a sorting network (Batcher's odd-even merge sort: Knuth, The Art of Computer Programming,
volume 3, section 5.2.2, Algorithm M): each comparison is a minimum and a maximum of two whole rows, and those that no
middle row depends on are left out. Many rows are sorted column by column, where numpy sorts many short runs of memory
fast. np.partition, behind np.median, does neither (measured: docs/results/robust.md).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from archipel.federated.port import Block
from archipel.federated.robust.port import Rows

FEW = 48
"""Rows up to which the network is the faster of the two."""
Network = tuple[tuple[int, int], ...]


def middle_mean(rows: Rows, trim: int) -> Block:
    """Return each column's mean without its `trim` largest and smallest values; finite rows in, `rows` is scratch.

    Args:
        rows: shape (rows, columns), C-contiguous; more than 2 * trim rows.
        trim: how many values are left out at each end.

    Returns:
        Shape (columns,), of the dtype of `rows`.
    """
    count = len(rows) - 2 * trim
    if len(rows) > FEW:
        columns = np.ascontiguousarray(rows.T)
        columns.sort(axis=1)
        middle: Block = columns[:, trim : trim + count].mean(axis=1)
        return middle
    ordered = _ordered(rows, network(len(rows), trim))[trim : trim + count]
    total = ordered[0]
    for row in ordered[1:]:
        np.add(total, row, out=total)
    return np.divide(total, rows.dtype.type(count), out=total)


def _ordered(rows: Rows, comparisons: Network) -> list[Block]:
    ordered = list(rows)
    spare = np.empty_like(ordered[0])
    for low, high in comparisons:
        np.minimum(ordered[low], ordered[high], out=spare)
        np.maximum(ordered[low], ordered[high], out=ordered[high])
        ordered[low], spare = spare, ordered[low]
    return ordered


@cache
def network(count: int, trim: int) -> Network:
    """Return the comparisons (low, high) that put rows trim..count - trim in their places."""
    wanted = set(range(trim, count - trim))
    kept: list[tuple[int, int]] = []
    for low, high in reversed(_whole_network(count)):
        if low in wanted or high in wanted:
            kept.append((low, high))
            wanted |= {low, high}
    return tuple(reversed(kept))


def _whole_network(count: int) -> Network:
    """Return Batcher's network: runs of length `run` are merged in pairs, comparing at shrinking distances."""
    comparisons: list[tuple[int, int]] = []
    run = 1
    while run < count:
        distance = run
        while distance:
            for first in range(distance % run, count - distance, 2 * distance):
                lows = range(first, min(first + distance, count - distance))
                comparisons += [
                    (low, low + distance) for low in lows if low // (2 * run) == (low + distance) // (2 * run)
                ]
            distance //= 2
        run *= 2
    return tuple(comparisons)
