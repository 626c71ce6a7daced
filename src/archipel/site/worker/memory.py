"""What a site remembers of a run between rounds, such as SCAFFOLD's c_i or its personalised weights.

The worker asks for the newest state of rounds before the one at hand, and hands over an update together with the
state it leads to: whoever keeps them keeps both or neither, so a round that is done again starts from the same state.
A live site keeps them in its journal (the worker process only carries them); a simulation in a RunMemory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from archipel.security.secagg import History
from archipel.spec import Blob, RoundTask, Update

CONTROL = "control"
"""SCAFFOLD's c_i, laid out as the weights."""
RESIDUE = "residue"
"""What compression has lost of the site's updates so far, laid out as the weights; its next update takes it in."""
PERSONALISED = "personalised"
"""The site's own copy of the final model: weights…"""
PERSONALISED_ONNX = "personalised.onnx"
"""…and what is served."""


class Memory(Protocol):
    """A site's memory of its runs."""

    def recall(self, run: str, before: int) -> dict[str, Blob]:
        """Return the newest state of a run, by name, from rounds before `before`."""
        ...

    def keep(self, task: RoundTask, update: Update, state: Mapping[str, Blob]) -> None:
        """Take an update together with the state it leads to."""
        ...


class RunMemory:
    """Memory in memory, for sites of a simulation; one a site."""

    def __init__(self) -> None:
        self._states: dict[str, dict[int, dict[str, Blob]]] = {}

    def recall(self, run: str, before: int) -> dict[str, Blob]:
        """See Memory."""
        newest: dict[str, Blob] = {}
        for round_, state in sorted(self._states.get(run, {}).items()):
            if round_ < before:
                newest |= state
        return newest

    def keep(self, task: RoundTask, update: Update, state: Mapping[str, Blob]) -> None:
        """See Memory; states that the newest ones replace are dropped, but for the last."""
        del update
        if not state:
            return
        rounds = self._states.setdefault(task.run, {})
        # The newest before this round stays: the round may be done again.
        for earlier in sorted(round_ for round_ in rounds if round_ < task.round)[:-1]:
            if set(rounds[earlier]) <= set(state):
                del rounds[earlier]
        rounds[task.round] = dict(state)

    def state_of(self, task: RoundTask) -> dict[str, Blob]:
        """Return the state that was taken with the update of a task."""
        return dict(self._states.get(task.run, {}).get(task.round, {}))

    def held(self) -> set[str]:
        """Return the digests of the blobs remembered: an update may have the very bytes of a state."""
        states = (state for rounds in self._states.values() for state in rounds.values())
        return {blob.digest for state in states for blob in state.values()}


class SecretMemory:
    """Answers and sessions in memory, for a site of a simulation; see `worker.sum_memory.Secrets`."""

    def __init__(self) -> None:
        self._plain: dict[str, tuple[int, bytes, frozenset[str]]] = {}
        self._sessions: dict[tuple[str, int], tuple[bytes, Blob | None]] = {}
        self._history: dict[str, History] = {}

    def plain(self, run: str, number: int) -> bytes | None:
        """See Secrets."""
        kept = self._plain.get(run)
        return kept[1] if kept is not None and kept[0] == number else None

    def keep_plain(self, run: str, number: int, plain: bytes, blobs: frozenset[str]) -> set[str]:
        """See Secrets."""
        before = self._plain.get(run, (0, b"", frozenset[str]()))[2]
        self._plain[run] = (number, plain, blobs)
        self.leave_others(run, number)
        return set(before - blobs)

    def leave_others(self, run: str, number: int) -> set[str]:
        """See Secrets."""
        others = {key: kept for key, kept in self._sessions.items() if key[0] == run and key[1] != number}
        self._sessions = {key: kept for key, kept in self._sessions.items() if key not in others}
        return {vector.digest for _, vector in others.values() if vector is not None}

    def session(self, run: str, number: int) -> tuple[bytes, Blob | None] | None:
        """See Secrets."""
        return self._sessions.get((run, number))

    def keep_session(self, run: str, number: int, state: bytes, vector: Blob | None, history: History) -> None:
        """See Secrets."""
        self._sessions[run, number] = (state, vector)
        self._history[run] = history

    def history(self, run: str) -> History:
        """See Secrets."""
        return self._history.get(run, History())


class CarriedMemory:
    """Memory of a worker process: the agent's journal gives the state with a task and takes it with the answer."""

    def __init__(self) -> None:
        self._given: dict[str, Blob] = {}
        self.new: dict[str, Blob] = {}

    def carry(self, state: Mapping[str, Blob]) -> None:
        """Take what the journal knows, before a task."""
        self._given, self.new = dict(state), {}

    def recall(self, run: str, before: int) -> dict[str, Blob]:
        """See Memory; the agent has chosen run and round."""
        del run, before
        return dict(self._given)

    def keep(self, task: RoundTask, update: Update, state: Mapping[str, Blob]) -> None:
        """See Memory."""
        del task, update
        self.new = dict(state)
