"""What a fleet can do beside what is asked of it: compute, storage and links, each with what decides it.

    found = capacity_of(fleet)
    found.compute.total            # reached only where work is dealt in proportion to speed
    found.compute.lock_step        # with equal parts, everyone waits for the slowest device
    found.storage.read_time        # of the best placement over tiers: its slowest tier decides
    found.shortfalls               # what does not fit, and how much would

Totals are never added over kinds: capacities are bytes, bandwidths bytes for a second.
"""

from __future__ import annotations

from dataclasses import dataclass

from archipel.planner.network import Graph, in_series, striped
from archipel.spec.fleet import Device, FleetSpec, Tier
from archipel.spec.quantities import Bandwidth, Compute, Duration, Quantity, Size


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A demand that is not met."""

    what: str
    needed: Quantity
    available: Quantity
    relaxation: str
    """The smallest change that makes it fit."""

    @property
    def missing(self) -> Quantity:
        """What is needed beyond what there is."""
        return self.needed - self.available


@dataclass(frozen=True, kw_only=True)
class ComputeCapacity:
    """What all devices compute together."""

    devices: int
    total: Compute
    lock_step: Compute
    slowest: str
    """"site/kind" of the slowest device, which lock-step waits for."""
    needed: Compute | None
    undecided: str | None
    """Why demand and supply cannot be compared; None: they can."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Part of the stored data on one tier."""

    tier: str
    size: Size
    time: Duration
    """To read it."""


@dataclass(frozen=True, kw_only=True)
class StorageCapacity:
    """What all tiers hold together, and where the demand would lie."""

    total: Size
    bandwidth: Bandwidth
    """The sum over tiers: a bound, not what a reader sees."""
    needed: Size | None
    """All copies together."""
    placed: tuple[Placed, ...]
    """Of one copy, so that it is read soonest; empty: nothing is asked for, or it does not fit."""
    read_time: Duration | None
    effective: Bandwidth | None
    bottleneck: str | None


@dataclass(frozen=True, kw_only=True)
class LinkCapacity:
    """What the links carry."""

    path: Bandwidth
    """Over one path."""
    striped: Bandwidth
    """Over all paths at once."""
    route: tuple[str, ...]
    """The path between the ends of the transfer; empty: all links in series are meant."""
    mean: Bandwidth
    """The speed of nothing: shown to say so."""
    path_time: Duration | None
    striped_time: Duration | None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a fleet can do; None where it has no such part."""

    compute: ComputeCapacity | None
    storage: StorageCapacity | None
    links: LinkCapacity | None
    shortfalls: tuple[Shortfall, ...]


def capacity_of(fleet: FleetSpec) -> Capacity:
    """Compare what `fleet` has with what it is asked for."""
    compute, storage, links = _compute(fleet), _storage(fleet), _links(fleet)
    found = (_missing_compute(fleet, compute), _missing_storage(fleet, storage), _missing_link(fleet, links))
    shortfalls = tuple(one for one in found if one is not None)
    return Capacity(compute=compute, storage=storage, links=links, shortfalls=shortfalls)


def _compute(fleet: FleetSpec) -> ComputeCapacity | None:
    devices = {f"{site}/{kind}": one for site, found in fleet.sites.items() for kind, one in found.devices.items()}
    if not devices:
        return None
    parts = [one.compute * one.count for one in devices.values()]
    total = sum(parts[1:], parts[0])
    slowest = min(devices, key=lambda name: devices[name].compute)
    count = sum(one.count for one in devices.values())
    needed, undecided = _needed_compute(fleet)
    lock_step = devices[slowest].compute * count
    return ComputeCapacity(
        devices=count, total=total, lock_step=lock_step, slowest=slowest, needed=needed, undecided=undecided
    )


def _needed_compute(fleet: FleetSpec) -> tuple[Compute | None, str | None]:
    demand = fleet.demand
    if demand.transactions is None:
        return demand.compute, None
    if demand.work_per_transaction is None:
        return demand.compute, (
            f"{demand.transactions} and FLOPS have no common unit; say how much a transaction takes: "
            'work_per_transaction = "2 GFLOP" in [demand]'
        )
    asked = demand.transactions.of(demand.work_per_transaction)
    return (asked if demand.compute is None else demand.compute + asked), None


def _missing_compute(fleet: FleetSpec, found: ComputeCapacity | None) -> Shortfall | None:
    needed, _ = _needed_compute(fleet)
    if needed is not None and found is None:
        return Shortfall(what="compute", needed=needed, available=Compute(0), relaxation="devices at some site")
    if found is None or found.needed is None or found.needed <= found.total:
        return None
    times = found.needed / found.total
    return Shortfall(
        what="compute",
        needed=found.needed,
        available=found.total,
        relaxation=f"{times:.3g} times the devices, or {1 / times:.1%} of the demand",
    )


def _storage(fleet: FleetSpec) -> StorageCapacity | None:
    tiers = {f"{site}/{name}": tier for site, found in fleet.sites.items() for name, tier in found.storage.items()}
    if not tiers:
        return None
    all_tiers = list(tiers.values())
    total = sum((tier.capacity for tier in all_tiers[1:]), all_tiers[0].capacity)
    bandwidth = sum((tier.bandwidth for tier in all_tiers[1:]), all_tiers[0].bandwidth)
    asked, copies = fleet.demand.storage, fleet.demand.copies
    fits = asked is not None and asked * copies <= _room(tiers, asked)
    placed = place(asked, tiers) if asked is not None and fits else ()
    slowest = max(placed, key=lambda part: part.time.value, default=None)
    return StorageCapacity(
        total=total,
        bandwidth=bandwidth,
        needed=None if asked is None else asked * copies,
        placed=placed,
        read_time=None if slowest is None else slowest.time,
        effective=None if slowest is None or asked is None else asked.within(slowest.time),
        bottleneck=None if slowest is None else slowest.tier,
    )


def _room(tiers: dict[str, Tier], data: Size) -> Size:
    """Return what tiers hold of copies of `data`: no tier keeps a part of it twice."""
    held = [min(tier.capacity, data) for tier in tiers.values()]
    return sum(held[1:], held[0])


def place(data: Size, tiers: dict[str, Tier]) -> tuple[Placed, ...]:
    """Divide `data` among tiers so that reading all of it, from all at once, ends soonest.

    A tier read for t seconds gives min(capacity, bandwidth t) bytes, so the least t with enough of them in all is the
    optimum of the linear program min t, x <= capacity, x <= bandwidth t, sum x = data.
    """
    left, speed = data.value, sum(tier.bandwidth.value for tier in tiers.values())
    full: list[str] = []
    for name, tier in sorted(tiers.items(), key=lambda item: item[1].capacity.value / item[1].bandwidth.value):
        if left * tier.bandwidth.value / speed <= tier.capacity.value:
            break
        full.append(name)
        left -= tier.capacity.value
        speed -= tier.bandwidth.value
    parts = []
    for name, tier in tiers.items():
        size = tier.capacity if name in full else Size(left * tier.bandwidth.value / speed, unit=tier.capacity.unit)
        parts.append(Placed(tier=name, size=size, time=size.over(tier.bandwidth)))
    return tuple(parts)


def _missing_storage(fleet: FleetSpec, found: StorageCapacity | None) -> Shortfall | None:
    asked = fleet.demand.storage
    if asked is not None and found is None:
        return Shortfall(what="storage", needed=asked, available=Size(0), relaxation="storage at some site")
    if found is None or asked is None or found.needed is None or found.placed:
        return None
    tiers = {f"{site}/{name}": tier for site, one in fleet.sites.items() for name, tier in one.storage.items()}
    room = _room(tiers, asked)
    copies = int(room.value // asked.value)
    missing = found.needed - room
    fewer = f"; or {copies} {'copy' if copies == 1 else 'copies'} instead of {fleet.demand.copies}" if copies else ""
    return Shortfall(what="storage", needed=found.needed, available=room, relaxation=f"{missing} more{fewer}")


def _links(fleet: FleetSpec) -> LinkCapacity | None:
    links, demand = fleet.links, fleet.demand
    if not links:
        return None
    path, beside = in_series(links), striped(links)
    route: tuple[str, ...] = ()
    if demand.source is not None and demand.target is not None:
        graph = Graph(links)
        narrowest, route = graph.widest_path(demand.source, demand.target)
        flow = graph.max_flow(demand.source, demand.target)
        path, beside = narrowest or Bandwidth(0), flow or Bandwidth(0)
    moved = demand.transfer
    reached = moved is not None and path.value > 0
    return LinkCapacity(
        path=path,
        striped=beside,
        route=route,
        mean=striped(links) * (1 / len(links)),
        path_time=moved.over(path) if moved is not None and reached else None,
        striped_time=moved.over(beside) if moved is not None and reached else None,
    )


def _missing_link(fleet: FleetSpec, found: LinkCapacity | None) -> Shortfall | None:
    demand = fleet.demand
    if demand.transfer is None or (found is not None and found.path.value > 0):
        return None
    ends = f" that joins {demand.source} and {demand.target}" if demand.source else ""
    return Shortfall(what="links", needed=demand.transfer, available=Size(0), relaxation=f"a link{ends}")


def devices_of(fleet: FleetSpec) -> list[tuple[str, str, Device]]:
    """Return (site, kind, device) for each single device, in the order of the file."""
    return [
        (site, kind, device)
        for site, found in fleet.sites.items()
        for kind, device in found.devices.items()
        for _ in range(device.count)
    ]
