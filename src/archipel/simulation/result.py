"""What a finished simulation of virtual clients leaves for people and tools: result.json, in one stable shape.

Every picture, table and export is made from it: nothing else of a simulation needs to be kept.

    result = read_result(folder / "result.json")
    [(record.step, record.loss) for record in result.history]
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from archipel.simulation.virtual import RoundRecord
from archipel.spec import JobSpec, SpecError, Value, decode


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
    flat = [_flat(msgspec.to_builtins(job)) for job in jobs]
    names = sorted({name for one in flat for name in one} - {"name"})
    told = [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]
    return tuple({name: one.get(name) for name in told} for one in flat)


def _flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
