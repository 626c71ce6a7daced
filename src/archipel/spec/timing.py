"""[simulation.time]: how long virtual clients take, and when a round ends; `mode` says which of the four it is.

    [simulation.time]
    mode = "fedbuff"
    concurrency = 200
    buffer = 20
    [simulation.time.devices]
    seconds_per_example = 0.02
    speed_sigma = 0.8

Each mode has keys of its own; those of another are refused as unknown.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Value

Positive = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Spread = Annotated[float, Meta(ge=0, le=3)]


class DeviceSpec(Value, frozen=True, kw_only=True):
    """[simulation.time.devices]: how fast clients are, and when they are there."""

    seconds_per_example: Rate = 0.01
    """Median time a client takes for one row in one epoch."""
    speed_sigma: Spread = 0.0
    """Its log-normal spread over clients; 0: all are equally fast."""
    down_mbps: Rate | None = None
    """Median megabits a second in which a client receives the model; None: that takes no time."""
    up_mbps: Rate | None = None
    """Median megabits a second in which it sends its update; None: that takes no time."""
    mbps_sigma: Spread = 0.0
    """Their log-normal spread over clients; one draw for both."""
    online: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the time in which a client is available; 1: always."""
    session_seconds: Annotated[float, Meta(ge=1)] = 3600.0
    """Mean length of the sessions in which it is; used only with `online` below 1."""
    trace: str | None = None
    """CSV file of devices, relative to the job file; what it does not say is drawn by the keys above."""
    assign: Literal["drawn", "name"] = "drawn"
    """Whose device is whose: drawn from the trace for each client, or the device of the client's own name."""


class Timed(Value, frozen=True, kw_only=True):
    """What every mode has."""

    devices: DeviceSpec = field(default_factory=DeviceSpec)


class ByChance(Value, frozen=True, kw_only=True, tag_field="kind", tag="uniform"):
    """Each client with the same chance."""


class ByTiers(Value, frozen=True, kw_only=True, tag_field="kind", tag="tiers"):
    """A round asks clients that take about as long, of one tier by time."""

    tiers: Annotated[int, Meta(ge=2, le=100)] = 5
    """How many there are, all of one size."""
    bias: Annotated[float, Meta(ge=0, le=3)] = 0.5
    """A tier that takes twice as long is asked 2 to the power of this times less; 0: all equally often."""


class ByUtility(Value, frozen=True, kw_only=True, tag_field="kind", tag="oort"):
    """Clients whose loss is high and whose work is quick, and new ones."""

    preferred_quantile: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """Who takes longer than this share of the clients is asked less."""
    slow_penalty: Annotated[float, Meta(ge=0, le=10)] = 2.0
    """How much less: to this power; 0: not at all."""


SelectionSpec = ByChance | ByTiers | ByUtility


class Selecting(Timed, frozen=True, kw_only=True):
    """What modes of rounds have."""

    selection: SelectionSpec = field(default_factory=ByChance)
    """Whom a round asks."""


class Synchronous(Selecting, frozen=True, kw_only=True, tag_field="mode", tag="synchronous"):
    """A round waits for its whole cohort; the model is the one without [simulation.time] while all are online."""


class Deadline(Selecting, frozen=True, kw_only=True, tag_field="mode", tag="deadline"):
    """A round asks more clients than it needs, and ends once `cohort` of them have answered or time is up."""

    over_selection: Annotated[float, Meta(ge=1, le=100)] = 1.3
    """Clients asked, as a multiple of the cohort, rounded up; 1: no more than are needed."""
    deadline_seconds: Rate | None = None
    """Who has answered by then is folded, the rest is thrown away; None: no deadline."""


class FedBuff(Timed, frozen=True, kw_only=True, tag_field="mode", tag="fedbuff"):
    """No rounds: clients train all the time, and each `buffer` updates are a step of the server."""

    concurrency: Positive | None = None
    """Clients at work at any time; None: as many as `cohort` says."""
    buffer: Positive = 10
    """Updates that make a step (the paper's K)."""
    server_learning_rate: Rate = 1.0
    """For fedavg and fedprox: the mean update times this rate is added to the model."""


class Partial(Selecting, frozen=True, kw_only=True, tag_field="mode", tag="partial"):
    """A round has a length; clients train on as many rows as fit, and late updates count in the round they come in."""

    deadline_seconds: Rate | None = None
    """The length; None: by `deadline_quantile`."""
    deadline_quantile: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """The round is as long as this share of the clients take for all of their work."""
    least_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Share of its rows that a client trains on at the least, however late it gets."""


TimeSpec = Synchronous | Deadline | Partial | FedBuff


def mode_of(time: TimeSpec) -> str:
    """Return what a job writes for the mode."""
    return str(time.__struct_config__.tag)
