"""The append-only log behind an audit: RFC 6962 trees, their proofs, and signed heads. Pure; stores live elsewhere.

tree     hashes of leaves and nodes; which nodes an append completes
proofs   that an entry is in a log, and that a longer log goes on from a shorter one
heads    one signed line that fixes a whole log; what a witness accepts after it
"""

from archipel.security.audit.heads import accept, log_id, sign_head, verify_head
from archipel.security.audit.proofs import (
    consistency_ranges,
    fold_ranges,
    inclusion_ranges,
    is_consistent,
    is_included,
)
from archipel.security.audit.tree import EMPTY_ROOT, Growth, Place, fold, grow, is_whole, leaf_hash, peaks, root_of

__all__ = [
    "EMPTY_ROOT",
    "Growth",
    "Place",
    "accept",
    "consistency_ranges",
    "fold",
    "fold_ranges",
    "grow",
    "inclusion_ranges",
    "is_consistent",
    "is_included",
    "is_whole",
    "leaf_hash",
    "log_id",
    "peaks",
    "root_of",
    "sign_head",
    "verify_head",
]
