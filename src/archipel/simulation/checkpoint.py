"""What a simulation goes on from: models, the algorithm's state, the round and virtual time they are of, in one file.

    checkpoints = Checkpoints(folder / "checkpoint.safetensors", key)
    standing = checkpoints.read()       # None: nothing to go on from, or it is of another simulation
    checkpoints.offer(standing)         # after a round; written now and then
    checkpoints.flush()                 # written now: the command is interrupted
    checkpoints.clear()                 # the simulation is over

A file is complete or absent: it is written beside its place, synced and renamed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.federated.port import Block
from archipel.simulation.clock.port import Moment
from archipel.spec import SpecError, decode, encode, pack, unpack

EVERY_SECONDS = 10.0
"""So much work a kill costs at the most, or a round where one takes longer."""
_MODEL, _STATE, _BEGUN, _ABOUT = "model", "state.", "begun.", "about"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint is of."""

    key: str
    """Job, code, rows and version: only the same simulation may go on."""
    step: int
    """The last round that is in it."""
    executor: str
    """By which it was computed: another would come to other bits."""
    moment: Moment
    clip_norm: float | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a simulation is after a round."""

    step: int
    executor: str
    vector: Block
    state: Mapping[str, Block]
    models: Mapping[int, Block]
    """Round → the model it began with, of which clients still train; empty where rounds wait for theirs."""
    moment: Moment
    """Where virtual time is."""
    clip_norm: float | None = None
    """Of the next round, with [privacy.central]."""


class Checkpoints:
    """One file, written over and over."""

    def __init__(self, path: Path, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._key = key
        self._clock = clock
        self._written = clock()
        self._offered: Standing | None = None

    def read(self) -> Standing | None:
        """Return where this simulation was interrupted; None: nowhere.

        Raises:
            SpecError: the file is damaged.
        """
        try:
            arrays = unpack(self._path.read_bytes())
            about = decode(arrays.pop(_ABOUT).tobytes(), About)
        except FileNotFoundError:
            return None
        except (SpecError, KeyError) as error:
            message = f"the checkpoint {self._path} cannot be read"
            raise SpecError(message, hint="delete it, and the simulation begins anew") from error
        if about.key != self._key:
            return None
        self._offered = Standing(
            step=about.step,
            executor=about.executor,
            vector=arrays[_MODEL],
            state=_named(arrays, _STATE),
            models={int(step): model for step, model in _named(arrays, _BEGUN).items()},
            moment=about.moment,
            clip_norm=about.clip_norm,
        )
        return self._offered

    def offer(self, standing: Standing) -> bool:
        """Take note of where it is; write it if the last time is long ago, and say whether that was done.

        Raises:
            StorageFullError: the disk is full.
        """
        self._offered = standing
        if self._clock() - self._written < EVERY_SECONDS:
            return False
        self.flush()
        return True

    def flush(self) -> int:
        """Write what was offered last; return its round, 0 where nothing was.

        Raises:
            StorageFullError: the disk is full.
        """
        if self._offered is None:
            return 0
        standing = self._offered
        about = About(
            key=self._key,
            step=standing.step,
            executor=standing.executor,
            moment=standing.moment,
            clip_norm=standing.clip_norm,
        )
        arrays = {
            _MODEL: standing.vector,
            **{_STATE + name: array for name, array in standing.state.items()},
            **{f"{_BEGUN}{step}": array for step, array in standing.models.items()},
            _ABOUT: np.frombuffer(encode(about), np.uint8),
        }
        beside = self._path.with_suffix(".part")
        with full_disk_named(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(pack(arrays))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        self._written = self._clock()
        return standing.step

    def clear(self) -> None:
        """Forget it: the simulation is over."""
        self._offered = None
        self._path.unlink(missing_ok=True)


def _named(arrays: Mapping[str, Block], prefix: str) -> dict[str, Block]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
