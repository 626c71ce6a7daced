"""What a finished simulation of virtual clients leaves for people and tools: result.json, in one stable shape.

Every picture, table and export is made from it: nothing else of a simulation needs to be kept.

    result = read_result(folder / "result.json")
    [(record.step, record.loss) for record in result.history]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from archipel.simulation.clock.report import TimeReport
from archipel.simulation.virtual import RoundRecord
from archipel.spec import JobSpec, SpecError, Value, decode
from archipel.spec.privacy import Guarantee


class Result(Value, frozen=True, kw_only=True, tag_field="type", tag="simulation/1"):
    """A finished simulation."""

    version: str
    """Of archipel."""
    job: JobSpec
    """As it was computed: presets applied, defaults filled in."""
    job_digest: str
    code: str
    """Digest of the task's bundle."""
    data: str
    """Digest of the data set's files."""
    seed: int
    model_digest: str
    executor: str
    executor_why: str
    processes: int
    """How many computed the cohorts."""
    clients: int
    rounds: int
    examples: int
    """Rows of the clients, added over rounds."""
    loss: float | None
    """Training loss of the last round; see `RoundRecord`."""
    test: dict[str, float]
    """The final model on the test rows; "examples" counts them."""
    seconds: float
    """Wall time of the command that finished it."""
    finished_at: float
    """Seconds since the Unix epoch."""
    history: tuple[RoundRecord, ...]
    """One for each round, in order."""
    simulated: TimeReport | msgspec.UnsetType = msgspec.UNSET
    """Virtual time, where the job has [simulation.time]."""
    privacy: Guarantee | msgspec.UnsetType = msgspec.UNSET
    """What all rounds together promise, where the job has [privacy.central]."""


def read_result(path: Path) -> Result:
    """Read a result.json.

    Raises:
        SpecError: there is none, or it is of another kind or version.
    """
    try:
        return decode(path.read_bytes(), Result)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SpecError(f"no result at {path}", hint="`archipel simulate JOB --data PATH` leaves one") from error
    except SpecError as error:
        hint = "name the result.json of a finished simulation; simulate the job again where it is an old one"
        raise SpecError(f"{path} is no result of a simulation: {error.message}", hint=hint) from error


def differences(jobs: tuple[JobSpec, ...]) -> tuple[dict[str, object], ...]:
    """Return for each job the dotted keys whose values are not the same in all of them; its name is left out."""
    keys = [flat(msgspec.to_builtins(job)) for job in jobs]
    names = sorted({name for one in keys for name in one} - {"name"})
    told = [name for name in names if any(one.get(name) != keys[0].get(name) for one in keys)]
    return tuple({name: one.get(name) for name in told} for one in keys)


def flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a job's values by dotted key.

    >>> flat({"federation": {"rounds": 3, "local": {"epochs": 1}}})
    {'federation.rounds': 3, 'federation.local.epochs': 1}
    """
    keys: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            keys |= flat(value, f"{prefix}{name}.")
        else:
            keys[prefix + name] = value
    return keys
