"""Who shares masks with whom, and who holds whose shares.

    complete   everybody with everybody; a site is also a holder of its own shares
    ring       sites in an order that nobody chose, each with the k/2 before and the k/2 after it (a Harary graph);
               the holders of a site's shares are its neighbours

The order on the ring is that of the sites' hashes under the session's context, which covers all adverts: who picks
its keys cannot pick its neighbours. Control, which decides whose adverts arrived, could try several sets; that is why
a quorum of all members is needed (see parameters.py).

Example:
    >>> Graph.of(["a", "b", "c"], members=3, neighbours=2, context=bytes(32)).holders("a")
    ('a', 'b', 'c')
"""

from __future__ import annotations

from collections.abc import Iterable

from archipel.security.secagg.derivation import Label, hash_of
from archipel.security.secagg.parameters import COMPLETE_UP_TO


class Graph:
    """The graph of one session over the sites that advertised keys."""

    def __init__(self, order: tuple[str, ...], reach: int, *, complete: bool) -> None:
        """Take the sites in their `order` on the ring; neighbours are up to `reach` places away."""
        self._order = order
        self._sites = tuple(sorted(order))
        self._places = {site: place for place, site in enumerate(order)}
        self._reach = reach
        self._complete = complete

    @classmethod
    def of(cls, sites: Iterable[str], *, members: int, neighbours: int, context: bytes) -> Graph:
        """Lay out `sites`; `members` is the number invited, which decides the kind of graph."""
        order = sorted(sites, key=lambda site: (hash_of(context, Label.RING, site), site))
        return cls(tuple(order), neighbours // 2, complete=members <= COMPLETE_UP_TO)

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, by name."""
        return self._sites

    def neighbours(self, site: str) -> tuple[str, ...]:
        """Sites that share a mask with `site`, by name."""
        if self._complete:
            return tuple(other for other in self._sites if other != site)
        place, size = self._places[site], len(self._order)
        steps = [step for step in range(-self._reach, self._reach + 1) if step % size]
        return tuple(sorted({self._order[(place + step) % size] for step in steps}))

    def holders(self, site: str) -> tuple[str, ...]:
        """Sites that hold a share of each secret of `site`, by name; the share at point 1 is the first one's."""
        return self._sites if self._complete else self.neighbours(site)

    def point(self, owner: str, holder: str) -> int:
        """Return the point of `holder`'s share of the secrets of `owner`, from 1."""
        return self.holders(owner).index(holder) + 1
