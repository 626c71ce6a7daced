"""A search under way: trials asked for, given to workers, heard of, told to the study.

    with Search(study, opening, count=2) as search:
        search.run(lambda study: print(len(study.trials)))

Only this process touches the study; workers compute. One that dies is replaced and its trial made again by the next;
a trial that has cost three workers fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from msgspec import structs

from archipel.simulation.search.messages import Opening, Scored
from archipel.simulation.search.study import Asked, Study
from archipel.simulation.search.worker import Worker
from archipel.simulation.spread.dealing import LIVES
from archipel.spec import TaskError

EXECUTOR, WHY = "executor", "executor_why"
"""Notes of a study: by what its trials are computed, on this machine and after any interruption."""
_TICK_SECONDS = 0.5


class Search:
    """Some workers at one study."""

    def __init__(self, study: Study, opening: Opening, *, count: int) -> None:
        self._study = study
        self._opening = structs.replace(opening, executor=study.notes.get(EXECUTOR, opening.executor))
        self._count = count
        self._workers: list[Worker] = []
        self._again: list[Asked] = []
        self._losses: Counter[int] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    @property
    def pids(self) -> list[int]:
        """Numbers of the workers' processes."""
        return [worker.pid for worker in self._workers]

    def run(self, told: Callable[[Study], None]) -> None:
        """Make the trials that are left; `told` hears of each that is over, and of time that passes.

        Raises:
            ArchipelError: nothing can go on: the task, the data set or the disk is at fault. What is over is kept.
        """
        self._begin()
        told(self._study)
        while self._hand_out():
            busy = [worker for worker in self._workers if worker.trial is not None]
            heard = wait([worker.connection for worker in busy], _TICK_SECONDS)
            over = [self._hear(worker) for worker in busy if worker.connection in heard]
            if any(over) or not over:
                told(self._study)

    def _begin(self) -> None:
        """Start the workers: the first finds out what all have to know."""
        left = min(self._count, self._study.left)
        if left:
            first = self._start()
            self._opening = structs.replace(self._opening, executor=self._ready(first))
        for _ in range(left - 1):
            self._start()

    def _start(self) -> Worker:
        self._workers.append(Worker(self._opening))
        return self._workers[-1]

    def _ready(self, worker: Worker) -> str:
        """Wait until a worker is ready; return by which executor it computes."""
        try:
            opened = worker.opened()
        except (EOFError, OSError) as error:
            self._drop(worker)
            hint = "what it printed above says why; a process that needs more memory than there is ends like this"
            raise TaskError("a worker died before its first trial", hint=hint) from error
        if opened.failure is not None:
            raise opened.failure.again()
        if EXECUTOR not in self._study.notes:
            self._study.note(EXECUTOR, opened.executor)
            self._study.note(WHY, opened.why)
        return opened.executor

    def _hand_out(self) -> bool:
        """Give every worker something to do; return whether any has."""
        while (trial := self._next_for_idle()) is not None:
            idle = next((worker for worker in self._workers if worker.trial is None), None) or self._start()
            if not idle.is_ready:
                self._ready(idle)
            try:
                idle.give(trial)
            except OSError:
                self._lose(idle)
        return any(worker.trial is not None for worker in self._workers)

    def _next_for_idle(self) -> Asked | None:
        """Return a trial, where there is room for one more."""
        if sum(worker.trial is not None for worker in self._workers) >= self._count:
            return None
        return self._again.pop() if self._again else self._study.ask()

    def _hear(self, worker: Worker) -> bool:
        """Take a worker's next word; return whether its trial is over, or was lost with it."""
        trial = worker.trial
        assert trial is not None
        try:
            word = worker.hear()
            if isinstance(word, Scored):
                is_wanted = self._study.goes_on(trial.number, word.step, word.value, is_last=word.is_last)
                worker.reply(is_wanted=is_wanted)
                return False
        except (EOFError, ConnectionError):
            self._lose(worker)
            return True
        worker.trial = None
        if word.failure is not None:
            raise word.failure.again()
        if word.value is None:
            self._study.end_early(trial.number, word.seconds, word.diverged, executor=word.executor)
        else:
            self._study.finish(trial.number, word.value, word.seconds, executor=word.executor)
        return True

    def _lose(self, worker: Worker) -> None:
        """Let a trial be made again whose worker died, unless it has cost too many."""
        trial = worker.trial
        assert trial is not None
        self._drop(worker)
        self._losses[trial.number] += 1
        if self._losses[trial.number] < LIVES:
            self._again.append(trial)
        else:
            self._study.fail(trial.number, f"{LIVES} processes died over it; there may be too little memory for it")

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.end()
