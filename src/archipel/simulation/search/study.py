"""What was tried and what is tried next, by Optuna, in a journal file that outlives whoever writes it.

    study = Study(folder / "journal.log", "points-0123456789ab", space, seed=0)
    trial = study.ask()                        # None: all were made, or are under way
    study.goes_on(trial.number, 10, 0.81, is_last=False)      # False: it is to be ended
    study.finish(trial.number, 0.93, seconds=8.1, executor="loop")

One process writes; it holds the folder. Each trial's values follow from the seed, the trial's number and what was known
when it was asked for, so a search by one worker comes to the same trials, interrupted or not. A trial that was under
way when its process was killed is asked for again, as the same trial with the same values.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np

from archipel.data.stores.spool import full_disk_named
from archipel.simulation.search.space import Space
from archipel.spec import JobSpec, MissingExtraError, SpecError, Value
from archipel.spec.job import Scalar
from archipel.tasks.metrics import is_lower_better

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

P = ParamSpec("P")
R = TypeVar("R")
_JOB, _SEED, _WHY, _SECONDS, _EXECUTOR = "job", "seed", "why", "seconds", "executor"
_SAMPLING = 0x5EA2C4
"""Keeps the draw of values apart from everything else that is drawn from a job's seed."""

State = Literal["finished", "ended early", "diverged", "failed"]


class Trial(Value, frozen=True, kw_only=True):
    """One trial that is over."""

    number: int
    state: State
    value: float | None
    """The metric on the validation rows when it was over; None: it never was scored."""
    rounds: int
    """After which it was scored last."""
    parameters: dict[str, Scalar]
    seed: int
    job: str
    """Digest of the job it was."""
    curve: tuple[tuple[int, float], ...]
    """(round, value) of each time it was scored."""
    executor: str
    """By which it was computed; empty: it was not."""
    seconds: float
    why: str
    """Why it diverged or failed; empty otherwise."""


class Asked(Value, frozen=True, kw_only=True):
    """A trial to be made."""

    number: int
    parameters: dict[str, Scalar]
    job: JobSpec


def require_search() -> None:
    """Refuse to begin without Optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("searching needs optuna", hint="pip install 'archipel[search]'")


def _full_disk_named(method: Callable[P, R]) -> Callable[P, R]:
    """Name a full disk, whichever line of the library meets it."""

    @functools.wraps(method)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        study: Any = args[0]
        with full_disk_named(study.path.parent, hint="free some space; the same command goes on"):
            return method(*args, **kwargs)

    return named


class Study:
    """The trials of one search."""

    def __init__(self, path: Path, name: str, space: Space, *, seed: int) -> None:
        """Open the journal, or begin it.

        Raises:
            StorageFullError: the disk is full.
            MissingExtraError: Optuna is not installed.
        """
        require_search()
        self.path = path
        self._space = space
        self._seed = seed
        self._under_way: dict[int, Any] = {}
        self._scored: dict[int, int] = {}
        self._open(name)
        self._cut_off = self._running()

    @_full_disk_named
    def _open(self, name: str) -> None:
        import optuna  # noqa: PLC0415 (an extra)
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

        logging.getLogger("optuna").setLevel(logging.WARNING)
        spec = self._space.spec
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mend(self.path)
        backend = JournalFileBackend(str(self.path))
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if spec.pruning == "halving":
            from archipel.simulation.search.halving import Halving  # noqa: PLC0415 (Optuna is an extra)

            pruner = Halving(least=self._space.min_rounds, factor=spec.reduction_factor)
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=name,
            direction=direction_of(spec.metric, spec.direction),
            sampler=numbered_sampler(self._seed),
            pruner=pruner,
            load_if_exists=True,
        )

    def _running(self) -> list[Any]:
        """Return the trials that nobody makes any more, the first last."""
        from optuna.trial import Trial, TrialState  # noqa: PLC0415

        found = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in found:
            self._scored[trial.number] = trial.last_step or 0
        return [Trial(self._study, trial._trial_id) for trial in reversed(found)]  # noqa: SLF001 (it has no other name)

    @property
    def notes(self) -> dict[str, Any]:
        """What `note` kept."""
        return self._study.user_attrs

    @_full_disk_named
    def note(self, name: str, value: str) -> None:
        """Keep something that is true of all trials."""
        self._study.set_user_attr(name, value)

    @_full_disk_named
    def ask(self) -> Asked | None:
        """Return a trial to be made; None: there is none left to begin.

        A trial whose values do not go together fails at once, and another is asked for.

        Raises:
            StorageFullError: the disk is full; what is over is kept.
        """
        while self.left > len(self._under_way):
            trial = self._cut_off.pop() if self._cut_off else self._study.ask()
            values: dict[str, Scalar] = {}
            for name in self._space.parameters:
                if self._space.applies(name, values):
                    values[name] = self._suggest(trial, name)
            trial.set_user_attr(_SEED, self._seed)
            self._under_way[trial.number] = trial
            try:
                job = self._space.job_of(values)
            except SpecError as error:
                self.fail(trial.number, error.message)
                continue
            trial.set_user_attr(_JOB, job.digest)
            return Asked(number=trial.number, parameters=values, job=job)
        return None

    @_full_disk_named
    def goes_on(self, number: int, step: int, value: float, *, is_last: bool) -> bool:
        """Take the score after a round; return whether the trial is to go on."""
        trial, before = self._under_way[number], self._scored.get(number, 0)
        if step < before:
            return True  # it is made again, and was judged then
        if step > before:
            trial.report(value, step)
            self._scored[number] = step
        return is_last or not trial.should_prune()

    @_full_disk_named
    def finish(self, number: int, value: float, seconds: float, *, executor: str) -> None:
        """Take the value of a trial that came to its end."""
        trial = self._under_way[number]
        trial.set_user_attr(_SECONDS, seconds)
        trial.set_user_attr(_EXECUTOR, executor)
        self._study.tell(trial, value)
        del self._under_way[number]

    @_full_disk_named
    def end_early(self, number: int, seconds: float, why: str = "", *, executor: str) -> None:
        """Take note that a trial was ended, or diverged (`why`)."""
        from optuna.trial import TrialState  # noqa: PLC0415

        trial = self._under_way[number]
        trial.set_user_attr(_SECONDS, seconds)
        trial.set_user_attr(_EXECUTOR, executor)
        trial.set_user_attr(_WHY, why)
        self._study.tell(trial, state=TrialState.PRUNED)
        del self._under_way[number]

    @_full_disk_named
    def fail(self, number: int, why: str) -> None:
        """Take note that a trial cannot be made."""
        from optuna.trial import TrialState  # noqa: PLC0415

        trial = self._under_way[number]
        trial.set_user_attr(_WHY, why)
        self._study.tell(trial, state=TrialState.FAIL)
        del self._under_way[number]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials that are over, by number."""
        return tuple(found for trial in self._study.get_trials(deepcopy=False) if (found := _over(trial)) is not None)

    @property
    def left(self) -> int:
        """How many trials are not over."""
        return max(0, self._space.spec.trials - len(self.trials))

    @property
    def best(self) -> Trial | None:
        """The best of those that came to their end; of equals the first. None: none did."""
        ended = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        sign = -1.0 if direction_of(self._space.spec.metric, self._space.spec.direction) == "maximize" else 1.0
        return min(ended, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def _suggest(self, trial: Any, name: str) -> Scalar:
        parameter = self._space.parameters[name]
        if parameter.choices:
            value: Scalar = trial.suggest_categorical(name, list(parameter.choices))
        elif self._space.is_whole(name):
            value = trial.suggest_int(name, int(parameter.low or 0), int(parameter.high or 0), log=parameter.log)
        else:
            value = trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
        return value


def direction_of(metric: str, direction: Literal["maximize", "minimize"] | None) -> Literal["maximize", "minimize"]:
    """Return which way is better; losses and errors are made small, unless the job says otherwise."""
    return direction or ("minimize" if is_lower_better(metric) else "maximize")


def mend(path: Path) -> None:
    """Cut off a last line that was never written whole, and drop the lock of a process that is no more.

    For whoever holds the folder: nobody else writes.
    """
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink(missing_ok=True)
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def numbered_sampler(seed: int) -> BaseSampler:
    """Return a tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24) that draws anew for each number.

    Optuna's own draws from one stream, which begins again with each process: a search that goes on would draw again
    what its first trials drew.
    """
    from optuna.samplers import BaseSampler, TPESampler  # noqa: PLC0415

    class Numbered(BaseSampler):
        def _of(self, number: int, name: str = "") -> TPESampler:
            drawn = np.random.SeedSequence((seed, number, zlib.crc32(name.encode()), _SAMPLING)).generate_state(1)
            return TPESampler(seed=int(drawn[0]))

        def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            return self._of(trial.number).infer_relative_search_space(study, trial)

        def sample_relative(
            self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return self._of(trial.number).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
            return self._of(trial.number, param_name).sample_independent(study, trial, param_name, param_distribution)

    return Numbered()


def _over(trial: FrozenTrial) -> Trial | None:
    """Read a trial; None: it is not over."""
    from optuna.trial import TrialState  # noqa: PLC0415

    told: Mapping[str, Any] = trial.user_attrs
    state: State
    if trial.state == TrialState.COMPLETE:
        state = "finished"
    elif trial.state == TrialState.PRUNED:
        state = "diverged" if told.get(_WHY) else "ended early"
    elif trial.state == TrialState.FAIL:
        state = "failed"
    else:
        return None
    curve = tuple(sorted(trial.intermediate_values.items()))
    return Trial(
        number=trial.number,
        state=state,
        value=trial.value if state == "finished" else curve[-1][1] if curve else None,
        rounds=curve[-1][0] if curve else 0,
        parameters=dict(trial.params),
        seed=told.get(_SEED, 0),
        job=told.get(_JOB, ""),
        curve=curve,
        executor=told.get(_EXECUTOR, ""),
        seconds=told.get(_SECONDS, 0.0),
        why=told.get(_WHY, ""),
    )
