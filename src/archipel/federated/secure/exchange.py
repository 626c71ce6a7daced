"""The port of a mode: how vectors are masked, and masks come off their sum, once it is known who adds what.

`by_shares` is SecAgg+, `by_helper` the sum with a helper. Each is control's side of one session of its protocol, and a
function of the answers in their order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from archipel.federated.secure.opening import WORD, Unmasking
from archipel.security.secagg import Layout, Trust
from archipel.spec import Digest, Leg, Manifest, SecureAggregationError, Update

Outbox = Mapping[str, bytes]


class Draft(NamedTuple):
    """What a session is about, whatever the mode."""

    run: str
    round: int
    """Number of the sum."""
    attempt: int
    model: Digest
    helper: str
    """Who helps; empty: nobody does."""
    fewest: int
    """Sites whose vectors the job wants in the sum, at the fewest."""
    layout: Layout
    certificates: Mapping[str, str]
    """Site → PEM, of those that have something to add."""
    trust: Trust
    now: dt.datetime
    """When the youngest of the certificates was made."""


class Exchange(Protocol):
    """One session."""

    @property
    def layout(self) -> Layout:
        """What a vector holds."""
        ...

    @property
    def members(self) -> int:
        """How many the terms ask in the open leg, whoever has dropped out."""
        ...

    @property
    def least(self) -> int:
        """How many must answer the open leg, whatever the job's quorum."""
        ...

    def begin(self) -> Outbox:
        """Return what is said to each party of the first leg of the protocol."""
        ...

    def take(self, leg: Leg, update: Update) -> None:
        """Take in an answer.

        Raises:
            SecureAggregationError: it does not hold; nothing is changed.
        """
        ...

    def close(self) -> Outbox:
        """Close the leg; return what is said to each party of the next.

        Raises:
            SecureAggregationError: too few answers to go on; the leg stays open.
        """
        ...

    def unmasking(self, sums: Manifest) -> Unmasking:
        """Return how the total is read, after the last leg."""
        ...


def require_vector(update: Update, name: str, count: int, signed: Digest) -> None:
    """Check that an update brings, as its part `name`, the vector of `count` words that its message names.

    Raises:
        SecureAggregationError: malformed.
    """
    part = update.parts.get(name)
    hint = "run the same archipel version at the site and in control"
    if part is None or not part.shared or part.blob.size_bytes != count * WORD.itemsize:
        raise SecureAggregationError(f"malformed: {update.site} sent no {name} vector of {count} words", hint=hint)
    if signed != part.blob.digest:
        raise SecureAggregationError(f"malformed: {update.site} signed another vector than it sent", hint=hint)
