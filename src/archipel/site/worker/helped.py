"""Sums with a helper, as a site's agent takes part in them: by its one answer, or as the helper itself.

    mask                    `answer`: the site's masked vector, and its seed for the helper
    advertise, release      `help`: the helper's key, and minus the sum of the masks

What is said is stored before it is returned, so that who was killed meanwhile says the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from archipel.federated.secure.legs import number_of
from archipel.security.secagg import Layout
from archipel.security.two_server import HelperSession, Seat, SiteAnswer
from archipel.site.worker.sum_memory import Plain, Secrets, require_about, store_vector
from archipel.site.worker.weights import Blobs
from archipel.spec import Blob, RoundTask, SecureAggregationError, SpecError, Value, decode, encode, failpoint

Values = Callable[[Layout, int], tuple[dict[str, npt.NDArray[Any]], float]]
"""A layout and over how many sites its sum may be opened → what the site adds, and its weight."""


class Said(Value, frozen=True, kw_only=True, tag_field="type", tag="two-server-said/1"):
    """A site's answer to an invitation; nothing in it is secret."""

    asked: str
    """SHA-256 (hex) of the invitation."""
    message: bytes


class Helped:
    """A site's part; `answer` and `help` do not overlap for one run."""

    def __init__(self, secrets: Secrets, blobs: Blobs, entropy: Callable[[int], bytes]) -> None:
        """Keep sessions in `secrets` and vectors in `blobs`; `entropy` gives so many random bytes."""
        self._secrets = secrets
        self._blobs = blobs
        self._entropy = entropy

    def answer(self, task: RoundTask, seat: Seat, plain: Plain, values: Values) -> tuple[bytes, Blob]:
        """Mask what the site computed; return its message and its vector.

        Raises:
            SecureAggregationError: it does not agree to what it is invited to; it says nothing.
            StateError: the vector is not here any more.
        """
        if task.leg != "mask":
            raise _not_asked(task)
        number = number_of(task.kind, task.step)
        asked = hashlib.sha256(task.message).hexdigest()
        known = self._secrets.session(task.run, number)
        if known is not None and known[1] is not None:
            said = decode(known[0], Said)
            if said.asked == asked:
                self._blobs.require(known[1].digest)
                return said.message, known[1]
        history = self._secrets.history(task.run)
        answer = SiteAnswer.to(task.message, seat=seat, history=history, entropy=self._entropy(32))
        require_about(answer.terms, task, plain)
        numbers, weight = values(answer.terms.layout, answer.terms.least)
        message, words = answer.mask(numbers, weight=weight)
        vector = store_vector(self._blobs, task, words)
        failpoint("site.leg.mask")
        said = Said(asked=asked, message=message)
        self._secrets.keep_session(task.run, number, encode(said), vector, answer.remembered(history))
        return message, vector

    def help(self, task: RoundTask, seat: Seat) -> tuple[bytes, Blob | None, set[str]]:
        """Take the helper's next step; return its message, its vector, and the blobs that nothing needs any more.

        Raises:
            SecureAggregationError: it does not agree to the terms, or takes no masks off; it says nothing.
            StateError: the vector is not here any more.
        """
        match task.leg:
            case "advertise":
                return self._advertised(task, seat)
            case "release":
                return *self._released(task, seat), set()
        raise _not_asked(task)

    def _advertised(self, task: RoundTask, seat: Seat) -> tuple[bytes, None, set[str]]:
        number = number_of(task.kind, task.step)
        failpoint("site.leg.advertise")
        known = self._secrets.session(task.run, number)
        if known is not None:
            session = HelperSession.restore(known[0], seat)
            if encode(session.terms) == task.message:
                return session.advertise(), None, set()
        history = self._secrets.history(task.run)
        session = HelperSession.join(task.message, seat=seat, history=history, entropy=self._entropy(32))
        if (session.terms.run, session.terms.round) != (task.run, number):
            message = "weak-terms: the terms are about another sum than the helper is asked for"
            raise SecureAggregationError(message, hint="nothing was released; ask control's operator why")
        dropped = self._secrets.leave_others(task.run, number)
        self._secrets.keep_session(task.run, number, session.state(), None, session.remembered(history))
        return session.advertise(), None, dropped

    def _released(self, task: RoundTask, seat: Seat) -> tuple[bytes, Blob]:
        number = number_of(task.kind, task.step)
        known = self._secrets.session(task.run, number)
        if known is None:
            message = "out-of-order: masks are to be taken off, and the helper joined no session"
            raise SecureAggregationError(message, hint="resume the run")
        session, vector = HelperSession.restore(known[0], seat), known[1]
        history = self._secrets.history(task.run)
        reply, words = session.release(task.message, history=history)
        if words is None:
            assert vector is not None
            self._blobs.require(vector.digest)
            return reply, vector
        vector = store_vector(self._blobs, task, words)
        failpoint("site.leg.release")
        self._secrets.keep_session(task.run, number, session.state(), vector, session.remembered(history))
        return reply, vector


def _not_asked(task: RoundTask) -> SpecError:
    message = f"leg {task.leg} is asked of {task.site}, which has no part in it"
    return SpecError(message, hint="run the same archipel version at the site and in control")
