"""What a search may try: [search.parameters] held against the job, and the job that some values make.

    space = Space(job)
    space.job_of({"federation.local.learning_rate": 0.03}).federation.local.learning_rate     # 0.03

Searched is how a model is trained: the algorithm and its options, local training, the cohort, the task's own options.
What the simulation is of (the data, the clients, the seed) and how long it takes are the same in every trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import structs

from archipel.federated.algorithms import BUILT_IN, algorithm_of, options_of
from archipel.spec import JobSpec, LocalTraining, SpecError, UnknownNameError
from archipel.spec.job import FederationSpec, Scalar, SearchParameter, SearchSpec, SimulationSpec

ALGORITHM = "federation.algorithm"
_OF_ALGORITHM = "federation.options."
_OF_TASK = "task.options."
_FEDERATION = ("algorithm", "weighting")
_SIMULATION = ("cohort",)
SCORED = 10
"""Times a trial is scored, where the job does not say how often."""

Values = Mapping[str, Scalar]
"""Dotted key → value, of one trial."""


class Space:
    """The values of one search."""

    def __init__(self, job: JobSpec) -> None:
        """Hold the job's [search] against its other tables.

        Raises:
            SpecError: the job has no [search] or no [simulation], or values are not possible.
            UnknownNameError: a key that cannot be searched; the hint names the nearest that can.
        """
        self.spec = search_of(job)
        if job.simulation is None:
            raise SpecError(
                f"job {job.name!r} has no virtual clients to search with", hint="add the table [simulation]"
            )
        self._job = job
        self._kinds = dict(_kinds())
        names = sorted(self.spec.parameters, key=lambda name: (name != ALGORITHM, name))
        self.parameters = {name: self.spec.parameters[name] for name in names}
        """Key → its values; the algorithm first, because its options depend on it."""
        for name, parameter in self.parameters.items():
            self._check(name, parameter)

    @property
    def min_rounds(self) -> int:
        """Rounds that every trial gets."""
        twice = self.spec.reduction_factor**2
        return self.spec.min_rounds or max(1, self._job.federation.rounds // twice)

    def is_whole(self, name: str) -> bool:
        """Is the range of this key one of whole numbers?"""
        parameter = self.parameters[name]
        if name.startswith(_OF_TASK):  # the task says what it takes by how it is written
            return isinstance(parameter.low, int) and isinstance(parameter.high, int)
        return int in _plain(self._kinds[name])

    def applies(self, name: str, values: Values) -> bool:
        """Does this key mean anything beside these values? An option does to algorithms that have it."""
        if not name.startswith(_OF_ALGORITHM):
            return True
        return _has(str(values.get(ALGORITHM, self._job.federation.algorithm)), name.removeprefix(_OF_ALGORITHM))

    def job_of(self, values: Values) -> JobSpec:
        """Return the job of a trial: these values in it, nothing to search, and scored now and then.

        Raises:
            SpecError: the values do not go together.
        """
        document: dict[str, Any] = msgspec.to_builtins(structs.replace(self._job, search=None))
        for name, value in values.items():
            *tables, key = _path(name)
            table = document
            for step in tables:
                table = table[step]
            table[key] = value
        federation = document["federation"]
        if ALGORITHM in self.parameters:  # the job's own options are of its own algorithm
            federation["options"] = {
                name: value for name, value in federation["options"].items() if _has(federation["algorithm"], name)
            }
        document["evaluation"]["every"] = self._job.evaluation.every or max(1, self._job.federation.rounds // SCORED)
        try:
            job = msgspec.convert(document, JobSpec)
        except msgspec.ValidationError as error:
            raise SpecError(str(error), hint="mend [search.parameters]") from error
        algorithm_of(job.federation)
        return job

    def _check(self, name: str, parameter: SearchParameter) -> None:
        known = [*self._kinds, *(_OF_TASK + option for option in self._job.task.options)]
        if name not in known and not name.startswith(_OF_TASK):
            raise UnknownNameError.of("key to search over", name, known)
        bounds = [bound for bound in (parameter.low, parameter.high) if bound is not None]
        if len(bounds) + 2 * bool(parameter.choices) != 2:
            message = f"[search.parameters] {name} has neither a range nor choices, or both"
            raise SpecError(message, hint="write { low = …, high = … } or { choices = [ … ] }")
        if bounds:
            _check_range(name, *bounds, log=parameter.log)
        elif len(set(map(repr, parameter.choices))) < len(parameter.choices) or parameter.log:
            hint = "leave it out" if parameter.log else "name each choice once"
            raise SpecError(f"[search.parameters] {name} has choices twice, or `log` beside choices", hint=hint)
        for value in parameter.choices or bounds:
            self._try(name, value)

    def _try(self, name: str, value: Scalar) -> None:
        """Refuse a value that the job's key does not take."""
        values: dict[str, Scalar] = {name: value}
        if name.startswith(_OF_ALGORITHM):
            option = name.removeprefix(_OF_ALGORITHM)
            algorithms = self.parameters[ALGORITHM].choices if ALGORITHM in self.parameters else ()
            having = [one for one in algorithms or (self._job.federation.algorithm,) if _has(str(one), option)]
            if not having:
                message = f"[search.parameters] {name}: no algorithm of this search has the option {option!r}"
                raise SpecError(message, hint="leave it out, or search over federation.algorithm too")
            values = {ALGORITHM: having[0], **values} if algorithms else values
        try:
            self.job_of(values)
        except SpecError as error:
            raise SpecError(f"[search.parameters] {name} = {value}: {error.message}", hint=error.hint) from error


def search_of(job: JobSpec) -> SearchSpec:
    """Return the job's [search].

    Raises:
        SpecError: it has none, or one without parameters.
    """
    if job.search is None or not job.search.parameters:
        hint = 'add [search.parameters], with "federation.local.learning_rate" = { low = 0.001, high = 1.0 } in it'
        raise SpecError(f"job {job.name!r} says nothing to search over", hint=hint)
    return job.search


def _check_range(name: str, low: float, high: float, *, log: bool) -> None:
    if low >= high:
        raise SpecError(f"[search.parameters] {name}: low {low} is not below high {high}", hint="turn them round")
    if log and low <= 0:
        hint = "let `low` be above 0, or leave `log` out"
        raise SpecError(f"[search.parameters] {name}: there is no logarithm of {low}", hint=hint)


def _kinds() -> Iterator[tuple[str, Any]]:
    """Yield each dotted key that can be searched and what it takes; the task's options are the task's business."""
    hints = get_type_hints(FederationSpec, include_extras=True)
    yield from ((f"federation.{name}", hints[name]) for name in _FEDERATION)
    yield from ((f"federation.local.{name}", kind) for name, kind in _fields(LocalTraining))
    simulation = dict(_fields(SimulationSpec))
    yield from ((f"simulation.{name}", simulation[name]) for name in _SIMULATION)
    options = {option for algorithm in BUILT_IN for option in options_of(algorithm)}
    yield from ((_OF_ALGORITHM + name, float) for name in sorted(options))


def _fields(kind: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    yield from ((name, hints[name]) for name in kind.__struct_fields__)


def _plain(kind: Any) -> set[Any]:
    """Return the plain types in an annotation."""
    return {kind} if not get_args(kind) else {one for arg in get_args(kind) for one in _plain(arg)}


def _path(name: str) -> list[str]:
    for prefix in (_OF_ALGORITHM, _OF_TASK):
        if name.startswith(prefix):
            return [*prefix.rstrip(".").split("."), name.removeprefix(prefix)]
    return name.split(".")


def _has(algorithm: str, option: str) -> bool:
    """Has the algorithm this option?"""
    return algorithm in BUILT_IN and option in options_of(algorithm)
