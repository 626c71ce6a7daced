"""A client's device: how fast it computes and transfers, and when it is available; drawn from the seed, or of a trace.

    device = devices.device(17)
    ends = device.finish(began=0.0, rows=60)

What is drawn follows from the seed and the client's number alone: a million devices take no more memory than ten.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec
import numpy as np

from archipel.simulation.clock.sessions import Always, Cycles, Sessions, finish, worked
from archipel.spec.timing import DeviceSpec

SPEED_STREAM, MBPS_STREAM = 0x59EED, 0xB11F5
"""Streams of what is drawn for a device."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a round costs each client, whatever its device."""

    epochs: int
    down_bytes: int
    up_bytes: int


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One client's device."""

    seconds_per_example: float
    """For one row in one epoch."""
    down_mbps: float | None
    """Megabits a second; None: no time."""
    up_mbps: float | None
    sessions: Sessions

    def finish(self, load: Load, began: float, rows: int) -> float:
        """Return when the update of a client with so many rows is there."""
        return finish(self.sessions, began, self.seconds(load, rows))

    def worked(self, load: Load, began: float, until: float, rows: int) -> tuple[float, int]:
        """Return seconds of work until then, and the share of the rows that is the share of the training done."""
        spent = min(worked(self.sessions, began, until), self.seconds(load, rows))
        training = self._training(load, rows)
        if training == 0:
            return spent, 0
        share = (spent - transfer_seconds(load.down_bytes, self.down_mbps)) / training
        return spent, math.floor(rows * min(max(share, 0.0), 1.0) + 1e-9)

    def fitting(self, load: Load, began: float, until: float, rows: int) -> int:
        """Return on how many of its rows the client can train and have answered by then."""
        left = worked(self.sessions, began, until) - self.seconds(load, 0)
        training = self._training(load, rows)
        if left < 0:
            return 0
        return rows if training <= left else math.floor(rows * left / training + 1e-9)

    def seconds(self, load: Load, rows: int) -> float:
        """Return how long the work takes while the client is available: receive, train, send."""
        down = transfer_seconds(load.down_bytes, self.down_mbps)
        return down + self._training(load, rows) + transfer_seconds(load.up_bytes, self.up_mbps)

    def _training(self, load: Load, rows: int) -> float:
        return rows * load.epochs * self.seconds_per_example


class Devices(Protocol):
    """All clients' devices, none of them kept."""

    @property
    def always(self) -> bool:
        """Whether every client is available at any time."""
        ...

    def device(self, client: int) -> Device:
        """Return the client's device."""
        ...


class Drawn:
    """Devices drawn from distributions."""

    def __init__(self, spec: DeviceSpec, seed: int) -> None:
        self._spec = spec
        self._seed = seed

    @property
    def always(self) -> bool:
        """Whether `online` is 1."""
        return self._spec.online == 1

    def device(self, client: int) -> Device:
        """Draw the client's device."""
        spec = self._spec
        faster = self._factor(client, spec.mbps_sigma, MBPS_STREAM)
        return Device(
            seconds_per_example=spec.seconds_per_example * self._factor(client, spec.speed_sigma, SPEED_STREAM),
            down_mbps=None if spec.down_mbps is None else spec.down_mbps * faster,
            up_mbps=None if spec.up_mbps is None else spec.up_mbps * faster,
            sessions=self._sessions(client),
        )

    def _sessions(self, client: int) -> Sessions:
        if self.always:
            return Always()
        spec = self._spec
        return Cycles(online=spec.online, session_seconds=spec.session_seconds, seed=self._seed, client=client)

    def _factor(self, client: int, sigma: float, stream: int) -> float:
        """Draw from the log-normal distribution with median 1."""
        if not sigma:
            return 1.0
        return float(np.exp(np.random.default_rng((self._seed, client, stream)).normal(0.0, sigma)))


def transfer_seconds(size_bytes: int, mbps: float | None) -> float:
    """Return how long so many bytes take at so many megabits a second."""
    return 0.0 if mbps is None else size_bytes * 8e-6 / mbps
