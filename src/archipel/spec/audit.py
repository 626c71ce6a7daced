"""What is said about an audit log: its head, the proof that it only grew, the proof that an entry is in it.

Hashes are RFC 6962's, 32 bytes, written as digests. An entry's leaf is the canonical bytes of its Event; entry 1 of
the log is leaf 0 of the tree.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from archipel.spec.canonical import Digest, Value
from archipel.spec.event import Event

Size = Annotated[int, Meta(ge=0, le=2**53)]


class TreeHead(Value, frozen=True, kw_only=True, tag_field="type", tag="tree-head/1"):
    """One line that fixes a log of `size` entries; signed over these very canonical bytes."""

    log: str
    """Whose log it is: SHA-256, in hex, of the public key that signs (SubjectPublicKeyInfo, DER)."""
    size: Size
    root: Digest
    at: Annotated[float, Meta(ge=0)]
    """When it was signed, in seconds since the Unix epoch by the signer's clock."""


class SignedHead(Value, frozen=True, kw_only=True, tag_field="type", tag="signed-head/1"):
    """A head and the log's signature: ECDSA P-256 with SHA-256, over "archipel-tree-head/1", a line end, the head."""

    head: TreeHead
    signature: bytes
    """DER; base64 in JSON."""


class LogGrowth(Value, frozen=True, kw_only=True, tag_field="type", tag="log-growth/1"):
    """A newer head for a witness that knows the log of `since` entries, and the proof that nothing of those changed."""

    since: Size
    head: SignedHead
    path: tuple[Digest, ...] = ()


class EntryProof(Value, frozen=True, kw_only=True, tag_field="type", tag="entry-proof/1"):
    """An entry, the head it is in, and the way from the one to the other."""

    entry: Annotated[int, Meta(ge=1)]
    """Number in the log, from 1: the id that `archipel logs --json` and GET /v1/events give."""
    event: Event
    head: SignedHead
    path: tuple[Digest, ...]
