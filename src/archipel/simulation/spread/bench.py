"""What a process elsewhere computes with: the job's task over the rows, and the executor asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from archipel.simulation.opening import open_here
from archipel.simulation.spread.messages import Answer, Failure, Figures, Opening, Piece
from archipel.spec import ArchipelError, DataError
from archipel.tasks.executors import open_executor
from archipel.tasks.port import Executor, Vector, Weights

Deltas = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Bench:
    """Opened at its first piece, so that a failure to open is that piece's answer."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._executor: Executor | None = None

    def compute(self, piece: Piece, vector: Vector, deltas: Deltas) -> Answer:
        """Train the piece's clients from the weights in `vector`; client i's delta goes into row i of `deltas`."""
        figures: list[Figures] = []
        weights = Weights(manifest=piece.manifest, vector=vector)
        try:
            for row, one in enumerate(self._opened().train(weights, piece.plans)):
                deltas[row] = one.delta
                told = Figures(
                    examples=one.examples, steps=one.steps, loss_sum=one.loss_sum, loss_examples=one.loss_examples
                )
                figures.append(told)
        except ArchipelError as error:
            return Answer(figures=tuple(figures), failure=Failure.of(error))
        return Answer(figures=tuple(figures))

    def _opened(self) -> Executor:
        if self._executor is None:
            opening = self._opening
            adapter, digest = open_here(opening.job, Path(opening.folder), Path(opening.data))
            if digest != opening.digest:
                message = f"the rows at {opening.data} are others here than where the simulation was started"
                raise DataError(message, hint="let every node see the same files at the same path, on a shared disk")
            self._executor = open_executor(opening.executor, adapter)
        return self._executor
