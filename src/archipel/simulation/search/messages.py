"""What is said between a search and its workers, each a process: one trial at a time, its scores as they come."""

from __future__ import annotations

import msgspec

from archipel.simulation.spread.messages import Failure
from archipel.spec import JobSpec


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker needs to know of the search; said once, first."""

    job: JobSpec
    """As a trial is: scored now and then."""
    folder: str
    """Where the task's code is."""
    data: str
    """The data set."""
    place: str
    """A folder for what virtual clients remember during a trial."""
    executor: str
    """By which all trials are computed; "auto": the worker measures and says what it took."""
    options: tuple[str, ...]
    """Of the task, those that are searched."""
    metric: str


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's answer to its opening."""

    executor: str = ""
    why: str = ""
    failure: Failure | None = None


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """A trial to be made."""

    job: JobSpec


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The metric on the validation rows after a round; the worker waits to hear whether the trial goes on."""

    step: int
    value: float
    is_last: bool


class GoOn(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it does."""

    is_wanted: bool


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A trial is over."""

    seconds: float
    executor: str = ""
    """By which it was computed: `loop` where the model is none for the search's executor."""
    value: float | None = None
    """None: it did not come to its end."""
    diverged: str = ""
    """Why it did not, where its values are to blame."""
    failure: Failure | None = None
    """Why nothing can go on."""
