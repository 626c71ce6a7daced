"""The error tree: every failure Archipel raises on purpose, each with the next step for the person who meets it.

    ArchipelError                       exit code 1
    ├── SpecError                       2   a document (job file, message, policy) is not valid
    │   └── UnknownNameError            2   a field, version, kind or algorithm nobody knows
    ├── DataError                       3   a data set is missing, unreadable or breaks the job's contract
    ├── TaskError                       4   the user's task raised, or returned what cannot be used
    │   ├── ShapeError                  4   tensors do not match the manifest
    │   └── NonFiniteError              4   NaN or infinity in an update
    ├── TrustError                      5   a token, certificate, digest or signature does not hold
    │   ├── DigestError                 5   bytes are not what their digest says
    │   │   └── SealError               5   sealed bytes were changed, or sealed by another key
    │   ├── BudgetError                 5   a data set's privacy budget does not allow it
    │   ├── PolicyError                 5   a site's own policy does not allow it
    │   ├── SecureAggregationError      5   a session of secure aggregation was aborted
    │   └── AuditError                  5   an audit log is not what it was
    ├── StateError                      6   the state does not allow it (held by another, finished, stale)
    │   ├── StaleError                  6   a result for a round that is closed
    │   ├── StorageFullError            6   the disk is full; nothing was lost
    │   └── TooManyError                6   asked too often in too short a time
    ├── LinkError                       7   the other side cannot be reached
    ├── MissingExtraError               8   an optional dependency is not installed
    └── InfeasibleError                 9   a plan cannot be carried out as it was asked for

Example:
    >>> raise DataError("no column 'species' in birds.csv", hint="name the label column in [data.contract]")
    Traceback (most recent call last):
    archipel.spec.errors.DataError: no column 'species' in birds.csv
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchipelError(Exception):
    """Base of the tree. `hint` is the next step for the operator; `exit_code` is what the CLI returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class SpecError(ArchipelError):
    """A document is not valid."""

    exit_code = 2


class UnknownNameError(SpecError):
    """A name nobody knows; the hint names the nearest one that exists."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Build the error for `name` used as a `what`, where `known` are the valid names."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        return cls(f"unknown {what} {name!r}", hint=hint)


class DataError(ArchipelError):
    """A data set is missing, unreadable or breaks the job's contract."""

    exit_code = 3


class TaskError(ArchipelError):
    """The user's task raised, or returned what cannot be used."""

    exit_code = 4


class ShapeError(TaskError):
    """Tensors do not match the manifest."""


class NonFiniteError(TaskError):
    """NaN or infinity where a finite number is needed."""


class TrustError(ArchipelError):
    """A token, certificate or signature does not hold."""

    exit_code = 5


class DigestError(TrustError):
    """Bytes are not what their digest says."""


class SealError(DigestError):
    """What lies sealed on the disk was changed, or was sealed by another key."""


class BudgetError(TrustError):
    """A data set's privacy budget does not allow it."""


class PolicyError(TrustError):
    """A site's own policy does not allow it; the message begins with the rule's name."""


class SecureAggregationError(TrustError):
    """A session of secure aggregation was aborted; the message begins with the reason's name."""


class AuditError(TrustError):
    """An audit log is not what it was, or cannot prove that it is."""


class StateError(ArchipelError):
    """The state does not allow it."""

    exit_code = 6


class StaleError(StateError):
    """A result for a round that is closed."""


class StorageFullError(StateError):
    """The disk is full; nothing was lost."""


class TooManyError(StateError):
    """Asked too often in too short a time; after `wait_seconds` the same is taken again."""

    def __init__(self, message: str, *, hint: str = "", wait_seconds: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.wait_seconds = wait_seconds


class LinkError(ArchipelError):
    """The other side cannot be reached."""

    exit_code = 7


class MissingExtraError(ArchipelError):
    """An optional dependency is not installed."""

    exit_code = 8


class InfeasibleError(ArchipelError):
    """A plan cannot be carried out as it was asked for."""

    exit_code = 9
