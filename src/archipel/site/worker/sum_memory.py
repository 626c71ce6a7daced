"""What a site keeps of a secure sum: its plain answer, and the session in which it is masked."""

from __future__ import annotations

import os
from typing import Protocol

import msgspec

from archipel.federated.secure.legs import number_of
from archipel.security import two_server
from archipel.security.secagg import Field, History, Levels, Terms
from archipel.site.worker.weights import Blobs, store_words
from archipel.spec import Blob, RoundTask, SecureAggregationError, Update


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """A site's own answer, which is only ever added to others."""

    update: Update
    certificate: str
    """PEM; what the terms are to name. A renewal in the middle changes nothing."""
    subject: str
    """Digest of what it was computed from."""
    fields: tuple[Field, ...]


class Secrets(Protocol):
    """Where a site keeps its answers and sessions; the live one is its journal."""

    def plain(self, run: str, number: int) -> bytes | None:
        """Return the answer kept for a sum."""
        ...

    def keep_plain(self, run: str, number: int, plain: bytes, blobs: frozenset[str]) -> set[str]:
        """Keep an answer instead of any other of the run; return the blobs that nothing needs any more."""
        ...

    def session(self, run: str, number: int) -> tuple[bytes, Blob | None] | None:
        """Return the state of the newest session for a sum, and its masked vector."""
        ...

    def keep_session(self, run: str, number: int, state: bytes, vector: Blob | None, history: History) -> None:
        """Keep a session's state and what the site remembers of the run's sessions, both or neither."""
        ...

    def history(self, run: str) -> History:
        """Return what is remembered of the run's sessions."""
        ...

    def leave_others(self, run: str, number: int) -> set[str]:
        """Drop the sessions of the run's other sums; return the blobs that nothing needs any more."""
        ...


def store_vector(blobs: Blobs, task: RoundTask, words: Levels) -> Blob:
    """Store a masked vector, or the helper's."""
    return store_words(blobs, f"masked vector of {task.site}.{task.run}.{task.round}.{os.getpid()}", words)


def require_about(terms: Terms | two_server.Terms, task: RoundTask, plain: Plain) -> None:
    """Refuse terms that are about another sum than the one a site computed.

    Raises:
        SecureAggregationError: weak-terms.
    """
    number = number_of(task.kind, task.step)
    if (terms.run, terms.round, terms.model, terms.layout.fields) != (task.run, number, plain.subject, plain.fields):
        message = "weak-terms: the terms are about another sum than the one this site computed"
        raise SecureAggregationError(message, hint="nothing was released; ask control's operator why")
