"""Why a session of secure aggregation ends without a result: a reason by name, and the next step.

Who aborts has released nothing. A reason is part of the error's message, so it survives the wire:

    split-view: 6 of 7 needed sites signed this survivor set
"""

from __future__ import annotations

from enum import StrEnum

from archipel.spec import SecureAggregationError


class Reason(StrEnum):
    """Each way to abort. The text after the value says who causes it and how."""

    MALFORMED = "malformed"
    """Bytes that are no message of this protocol, or one of another kind."""
    OUT_OF_ORDER = "out-of-order"
    """A message of a stage that is not open, or another one for a stage that is closed."""
    WEAK_TERMS = "weak-terms"
    """Threshold, neighbours or quorum below what the site's own policy asks for."""
    SMALL_COHORT = "small-cohort"
    """Fewer sites than the policy's minimum: the sum would say too much about one of them."""
    TOO_FEW_SITES = "too-few-sites"
    """Fewer sites than the quorum are left."""
    REPLAYED_SESSION = "replayed-session"
    """The site has already taken part in this very session."""
    ROUND_RELEASED = "round-released"
    """The site has already released shares for this round: a second sum over other sites would give one site away."""
    NOT_A_MEMBER = "not-a-member"
    """A site that the terms do not name, or do not name under this certificate."""
    ENTRY_CHANGED = "entry-changed"
    """The roster lacks the site's own advert, or shows another in its place."""
    SUBSTITUTED_KEY = "substituted-key"
    """Keys of a peer that its certified identity did not sign, keys used twice, or a certificate that does not hold."""
    UNTRUE_SHARE = "untrue-share"
    """A share that does not open, does not belong to the site, or does not fit the others."""
    SPLIT_VIEW = "split-view"
    """Sites were shown different survivor sets, or too few confirm having seen this one."""
    SECOND_SURVIVOR_SET = "second-survivor-set"
    """Another survivor set after one was signed: both secrets of one site could be collected."""
    FORGED = "forged"
    """A signature that does not hold."""
    UNRECOVERABLE = "unrecoverable"
    """Too few true shares of a secret that the sum needs."""


_NOTHING_LOST = "nothing was released; mend the reason and run the round again"


def abort(reason: Reason, detail: str, *, hint: str = _NOTHING_LOST) -> SecureAggregationError:
    """Build the error to raise."""
    return SecureAggregationError(f"{reason}: {detail}", hint=hint)


def reason_of(error: SecureAggregationError) -> Reason:
    """Read the reason back from an error, also from one that crossed the wire."""
    return Reason(error.message.partition(":")[0])
