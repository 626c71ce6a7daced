"""The ways to divide rows among clients: by key, evenly, with skewed labels (Dirichlet), by shards.

`Uniform` and `Dirichlet` draw each client's rows by themselves: no client has a row twice while its class has enough,
but two clients may have the same row, as they must where there are more clients than rows. `ByKey` and `Shards` give
every row to one client.

Dirichlet: Hsu et al. 2019, arXiv:1909.06335, section 3, with the same concentration for every class. Shards: McMahan et
al. 2016, arXiv:1602.05629, section 3 (the pathological split: rows sorted by label, two shards a client).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.simulation.population.permutation import Permutation
from archipel.simulation.population.port import Population, numbered
from archipel.spec import DataError, SpecError, UnknownNameError
from archipel.spec.job import SimulationSpec
from archipel.tasks.port import Rows, Samples, row_count

Array = npt.NDArray[Any]
_SIZES, _LABELS, _ROWS, _SHARDS = 1, 2, 3, 4
"""Streams of what is drawn for a client."""


class ByKey:
    """A client for each value of a sample, with the rows that have it."""

    def __init__(self, keys: Array) -> None:
        values, self._starts = _sorted_runs(keys)
        self._order = np.argsort(keys, kind="stable")
        named = [_name_of(value) for value in values.tolist()]
        # Updates are added in the order of names.
        self._by_name = sorted(range(len(named)), key=named.__getitem__)
        self._names = named

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self._names)

    def name(self, client: int) -> str:
        """Return the value, as a name."""
        return self._names[self._by_name[client]]

    def rows(self, client: int) -> Rows:
        """Return the rows with the value."""
        at = self._by_name[client]
        own: Rows = self._order[self._starts[at] : self._starts[at + 1]]
        return own


class Numbered:
    """Clients that are known by their number alone."""

    def __init__(self, spec: SimulationSpec, seed: int) -> None:
        self._spec = spec
        self._seed = seed

    @property
    def count(self) -> int:
        """How many clients there are."""
        return self._spec.clients

    def name(self, client: int) -> str:
        """Return the client's number, as a name."""
        return numbered(client, self.count)


class Uniform(Numbered):
    """Clients whose rows are drawn from all."""

    def __init__(self, spec: SimulationSpec, seed: int, rows: int) -> None:
        super().__init__(spec, seed)
        self._rows = rows

    def rows(self, client: int) -> Rows:
        """Draw the client's rows."""
        size = min(size_of(self._spec, self._seed, client), self._rows)
        rng = np.random.default_rng((self._seed, client, _ROWS))
        return rng.choice(self._rows, size, replace=False, shuffle=False)


class Dirichlet(Numbered):
    """Clients with a few labels more than others."""

    def __init__(self, spec: SimulationSpec, seed: int, labels: Array) -> None:
        super().__init__(spec, seed)
        _, self._starts = _sorted_runs(labels)
        self._order = np.argsort(labels, kind="stable")

    def rows(self, client: int) -> Rows:
        """Draw the client's shares of the labels, then its rows of each."""
        classes = len(self._starts) - 1
        shares = np.random.default_rng((self._seed, client, _LABELS)).dirichlet(np.full(classes, self._spec.alpha))
        rng = np.random.default_rng((self._seed, client, _ROWS))
        counts = rng.multinomial(size_of(self._spec, self._seed, client), shares)
        drawn = []
        for first, stop, wanted in zip(self._starts[:-1], self._starts[1:], counts, strict=True):
            enough = wanted <= stop - first
            drawn.append(first + rng.choice(stop - first, wanted, replace=not enough, shuffle=False))
        chosen: Rows = self._order[np.concatenate(drawn)]
        return chosen


class Shards(Numbered):
    """Clients with some runs of rows that are sorted by label."""

    def __init__(self, spec: SimulationSpec, seed: int, labels: Array) -> None:
        super().__init__(spec, seed)
        self._order = np.argsort(labels, kind="stable")
        self._shards = spec.clients * spec.shards
        if self._shards > len(labels):
            raise SpecError(
                f"{spec.clients} clients with {spec.shards} shards each need {self._shards} rows, found {len(labels)}",
                hint='set fewer clients or shards in [simulation], or partition = "dirichlet"',
            )
        self._dealt = Permutation(self._shards, (seed, _SHARDS))

    def rows(self, client: int) -> Rows:
        """Return the rows of the client's shards."""
        each = self._spec.shards
        dealt = [self._dealt(client * each + at) for at in range(each)]
        rows = len(self._order)
        cut = [self._order[one * rows // self._shards : (one + 1) * rows // self._shards] for one in dealt]
        return np.concatenate(cut)


def open_population(spec: SimulationSpec, seed: int, samples: Samples) -> Population:
    """Divide the rows of a training split as a job says.

    Raises:
        UnknownNameError: a sample that `read` does not return.
        SpecError: the division is not possible.
        DataError: there are no rows.
    """
    rows = row_count(samples)
    if not rows:
        raise DataError("the training split has no rows to divide", hint="check what `read` returns as train")
    if spec.partition == "uniform":
        return Uniform(spec, seed, rows)
    if spec.partition == "key":
        if spec.key is None:
            raise SpecError('partition = "key" needs a key', hint="name a sample of `read` as `key` in [simulation]")
        return ByKey(_sample(samples, spec.key))
    labels = _sample(samples, spec.label)
    return Dirichlet(spec, seed, labels) if spec.partition == "dirichlet" else Shards(spec, seed, labels)


def size_of(spec: SimulationSpec, seed: int, client: int) -> int:
    """Return how many rows a client has: log-normal around the median, at least one."""
    if not spec.rows_sigma:
        return spec.rows
    drawn = np.random.default_rng((seed, client, _SIZES)).normal(np.log(spec.rows), spec.rows_sigma)
    return max(1, round(float(np.exp(drawn))))


def _sample(samples: Samples, name: str) -> Array:
    if name not in samples:
        raise UnknownNameError.of("sample in [simulation]:", name, samples)
    if samples[name].ndim != 1:
        shape = samples[name].shape
        raise SpecError(f"sample {name!r} has shape {shape}", hint="divide by a sample with one value a row")
    return samples[name]


def _sorted_runs(values: Array) -> tuple[Array, list[int]]:
    """Return the distinct values, sorted, and where each begins among the sorted rows, the end included."""
    found, counts = np.unique(values, return_counts=True)
    return found, [0, *np.cumsum(counts).tolist()]


def _name_of(value: object) -> str:
    """Make a name of a key's value; the same for the same value, and another for another."""
    text = str(value)
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:40]
    if plain == text:
        return plain
    return f"{plain or 'client'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
