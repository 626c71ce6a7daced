"""How often somebody may ask: the generic cell rate algorithm, one number a key.

A key may ask `at_once` times, and gets one more each `every_seconds`. What is kept of a key is when its debt will be
paid (ATM Forum TM 4.0, the theoretical arrival time); a key without debt is as good as one never seen.
Memory is bounded: beyond `room` keys they are dropped, and then those with the least debt.

Example:
    >>> limiter = Limiter(every_seconds=30.0, at_once=2, clock=lambda: 0.0)
    >>> [limiter.take("ana") for _ in range(3)]
    [0.0, 0.0, 30.0]
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable

_IPV6_NETWORK_BITS = 64


class Limiter:
    """Counts requests by key; safe for several threads."""

    def __init__(self, *, every_seconds: float, at_once: int, clock: Callable[[], float], room: int = 10_000) -> None:
        self._every = every_seconds
        self._burst = (at_once - 1) * every_seconds
        self._clock = clock
        self._room = room
        self._paid_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Count one request and return 0.0; or, without counting it, return how many seconds it comes too early."""
        with self._lock:
            now = self._clock()
            paid_at = max(self._paid_at.get(key, now), now)
            early = paid_at - self._burst - now
            if early > 0.0:
                return early
            self._paid_at[key] = paid_at + self._every
            if len(self._paid_at) > self._room:
                self._forgive(now)
            return 0.0

    def __len__(self) -> int:
        return len(self._paid_at)

    def _forgive(self, now: float) -> None:
        """Drop who owes nothing; where that is not enough, a quarter, those with the least debt first."""
        owing = sorted(((paid_at, key) for key, paid_at in self._paid_at.items() if paid_at > now), reverse=True)
        self._paid_at = {key: paid_at for paid_at, key in owing[: self._room * 3 // 4]}


def network_of(address: str) -> str:
    """Return what an address is counted as: itself; of IPv6 its /64, which one household or attacker has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
