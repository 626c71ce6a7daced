"""Checking an audit log from outside: all its entries against its head, and its head against the heads sites kept.

Nothing control says is believed: leaves are hashed here, signatures are checked with the CA that the operator file
pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from archipel.cli.client import Client
from archipel.security.audit import fold, grow, is_included, verify_head
from archipel.spec import AuditError, Value, digest_bytes, digest_text, encode
from archipel.spec.audit import EntryProof, SignedHead, TreeHead

_HINT = "see docs/concepts/audit.md on what to do; keep the sites' folders as they are"


class Verdict(Value, frozen=True, kw_only=True):
    """What was verified."""

    head: SignedHead
    entries: int
    """Entries read and hashed."""
    heads: int
    """Heads that sites kept and that fit."""


def verify(client: Client, ca_pem: str, kept: Iterable[SignedHead] = ()) -> Verdict:
    """Hold the whole log against its head and against heads kept elsewhere.

    Raises:
        AuditError: an entry was changed, removed, put elsewhere or added, or the log is not the one a site saw.
    """
    signed = client.head()
    return check(signed, leaves(client, signed.head.size), ca_pem, kept)


def check(signed: SignedHead, entries: Iterable[bytes], ca_pem: str, kept: Iterable[SignedHead] = ()) -> Verdict:
    """Hold `entries`, the leaves of a log, against its head and heads kept elsewhere; see `verify`."""
    heads = [verify_head(each, ca_pem) for each in (*kept, signed)]
    roots = _roots(entries, {head.size for head in heads})
    for head in heads:
        _require_root(head, roots)
    return Verdict(head=signed, entries=signed.head.size, heads=len(heads) - 1)


def require_included(proof: EntryProof, ca_pem: str) -> None:
    """Check a proof that an entry is in the log; an AuditError says that it does not hold."""
    head = verify_head(proof.head, ca_pem)
    path = [digest_bytes(item) for item in proof.path]
    if not is_included(encode(proof.event), proof.entry - 1, head.size, path, digest_bytes(head.root)):
        raise AuditError(f"entry {proof.entry} is not in the log its head speaks of", hint=_HINT)


def leaves(client: Client, size: int) -> Iterator[bytes]:
    """Yield the first `size` entries as the log's leaves."""
    for _, event in islice(client.all_events(), size):
        yield encode(event)


def _roots(entries: Iterable[bytes], sizes: set[int]) -> dict[int, str]:
    """Return the root of the log when it had each of these sizes, as far as it goes."""
    size: int = 0
    standing: tuple[bytes, ...] = ()
    roots = {0: digest_text(fold(()))}
    for data in entries:
        growth = grow(size, standing, (data,))
        size, standing = growth.size, growth.peaks
        if size in sizes:
            roots[size] = digest_text(growth.root)
    return roots


def _require_root(head: TreeHead, roots: dict[int, str]) -> None:
    if head.size not in roots:
        raise AuditError(f"a head speaks of {head.size} entries, and there are fewer", hint=_HINT)
    if roots[head.size] != head.root:
        raise AuditError(f"the first {head.size} entries are not those that its head was signed for", hint=_HINT)
