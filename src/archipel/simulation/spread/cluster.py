"""A crew of actors on a Ray cluster, one a CPU: how a simulation grows past one machine.

Weights are put into Ray's object store once a round, deltas come back through it. The job's code travels with the
simulation; the rows must be at the same path on every node, and each node checks that they are the same.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from archipel import __version__
from archipel.data.bundle import open_bundle
from archipel.simulation.spread.bench import Bench, Deltas
from archipel.simulation.spread.crew import Crew, GoneError, Returned
from archipel.simulation.spread.messages import Answer, Opening, Piece, from_bytes, to_bytes
from archipel.spec import MissingExtraError, StateError, TaskError
from archipel.tasks.port import Vector, Weights

try:
    import ray
    from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
except ImportError:
    raise MissingExtraError(
        "a simulation is spread over a Ray cluster by Ray, which is not installed", hint="pip install 'archipel[ray]'"
    ) from None

STARTS = 3
"""Actors in a row that may die before they have started, before the simulation says so and ends."""
CONNECT_SECONDS = 10.0
NEWS_SECONDS = 30.0
"""How often a cluster that says nothing is asked whether it has a CPU at all."""


class Cluster(Crew["Actor"]):
    """Members are actors of the cluster that Ray is connected to."""

    def __init__(self, opening: Opening, bundle: bytes, *, like: Vector, cohort: int) -> None:
        """Members start with the first round.

        Raises:
            StateError: the cluster has no CPU.
        """
        super().__init__(opening.executor, members=cpus(), cohort=cohort, client_bytes=like.nbytes)
        self._first = (to_bytes(opening), bundle)
        self._weights: Any = None
        self._stillborn = 0

    @property
    def count(self) -> int:
        """How many actors there are, or will be."""
        return self._count

    def _publish(self, weights: Weights) -> None:
        self._weights = ray.put(weights.vector)

    def _hire(self) -> Actor:
        return Actor(self._first, lambda: self._weights)

    def _heard(self, members: Sequence[Actor]) -> Sequence[Actor]:
        while True:
            by_ref = {member.awaited: member for member in members}
            heard, _ = ray.wait(list(by_ref), num_returns=1, timeout=NEWS_SECONDS)
            if heard:
                return [by_ref[ref] for ref in heard]
            cpus()

    def _drop(self, member: Actor) -> None:
        super()._drop(member)
        self._stillborn = 0 if member.started else self._stillborn + 1
        if self._stillborn == STARTS:
            raise TaskError(
                f"{STARTS} actors died on the Ray cluster before they had started",
                hint="`ray status` and the logs in /tmp/ray/session_latest/logs on the nodes say why",
            )


class Actor:
    """One actor, seen from the simulation."""

    def __init__(self, first: tuple[bytes, bytes], weights: Callable[[], Any]) -> None:
        start: Any = ray.remote(num_cpus=1, max_restarts=0)(Remote)
        self._actor = start.remote(*first)
        self._weights = weights
        self.awaited: Any = self._actor.version.remote()
        self.piece: int | None = None
        self.started = False

    @property
    def idle(self) -> bool:
        """Whether it waits for a piece; before it has started it does not."""
        return self.started and self.piece is None

    def give(self, piece: Piece) -> None:
        """Let it compute a piece."""
        self.piece = piece.number
        self.awaited = self._actor.compute.remote(to_bytes(piece), self._weights())

    def hear(self) -> Returned | None:
        """Take its piece, or that it has started; GoneError: it died.

        Raises:
            TaskError: it cannot work there: no or another Archipel, or an error of the task that is none of ours.
        """
        try:
            came = ray.get(self.awaited)
        except (RayActorError, ObjectLostError):
            raise GoneError from None
        except RayTaskError as error:
            first = str(error.cause or error).strip().splitlines()[-1]
            hint = f"the same archipel ({__version__}) must be installed on every node, beside what the task imports"
            raise TaskError(f"an actor on the Ray cluster failed: {first}", hint=hint) from None
        if self.piece is None:
            self._meet(came)
            return None
        self.piece = None
        answer, deltas = came
        return Returned(answer=from_bytes(answer, Answer), deltas=deltas)

    def end(self) -> None:
        """Kill it."""
        with suppress(RayError):
            ray.kill(self._actor)

    def _meet(self, version: str) -> None:
        if version != __version__:
            message = f"a node of the Ray cluster has archipel {version}, here is {__version__}"
            raise TaskError(message, hint=f"pip install archipel=={__version__} on every node")
        self.started = True


class Remote:
    """The actor itself: it lives on some node, in a process of Ray's."""

    def __init__(self, opening: bytes, bundle: bytes) -> None:
        self._code = tempfile.TemporaryDirectory(prefix="archipel-")
        folder = Path(self._code.name) / "code"
        open_bundle(bundle, folder)
        self._bench = Bench(msgspec.structs.replace(from_bytes(opening, Opening), folder=str(folder)))

    def version(self) -> str:
        """Say that it has started, and which Archipel it is."""
        return __version__

    def compute(self, piece: bytes, vector: Vector) -> tuple[bytes, Deltas]:
        """Return the encoded answer and the deltas, shape (clients, elements)."""
        todo = from_bytes(piece, Piece)
        deltas = np.empty((len(todo.plans), vector.size), vector.dtype)
        answer = self._bench.compute(todo, np.array(vector), deltas)  # a copy: what the store holds is read-only
        return to_bytes(answer), deltas[: len(answer.figures)]


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `ray://HOST:PORT`, or to the one of this machine, started where there is none.

    Raises:
        StateError: there is none at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no figures about the user's work go out unasked
    try:
        if address is not None:  # Ray itself would try for half a minute
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (OSError, RayError, ValueError, RuntimeError) as error:
        where = address or os.environ.get("RAY_ADDRESS", "this machine")
        hint = "start one with `ray start --head`, or leave the address out for one on this machine"
        raise StateError(f"no Ray cluster answers at {where}: {error}", hint=hint) from None
    try:
        yield
    finally:
        ray.shutdown()


def cpus() -> int:
    """Return how many CPUs the cluster has.

    Raises:
        StateError: none.
    """
    count = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    if not count:
        raise StateError("the Ray cluster has no CPU left", hint="start nodes with `ray start --address=HEAD:PORT`")
    return count
