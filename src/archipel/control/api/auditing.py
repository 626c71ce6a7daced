"""Addresses of the audit log's head and proofs. Its entries are GET /v1/events: a leaf is the `event` of each."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter

from archipel.control.api.guard import needs
from archipel.control.api.office import AnyRequest, office_of
from archipel.spec.audit import EntryProof, LogGrowth, SignedHead


@get("/v1/audit/head", opt=needs("audit.read"), sync_to_thread=True, tags=["audit"])
def head(request: AnyRequest) -> SignedHead:
    """Return the signed head of the audit log, as it is now."""
    return office_of(request).heads.head()


@get("/v1/audit/growth", opt=needs("audit.read"), sync_to_thread=True, tags=["audit"])
def growth(
    request: AnyRequest,
    since: Annotated[int, QueryParameter(ge=0, le=2**53, description="Entries of an earlier head")] = 0,
) -> LogGrowth:
    """Return the head with the proof that the log still begins with the entries of an earlier one."""
    return office_of(request).heads.growth(since)


@get("/v1/audit/entries/{number:int}", opt=needs("audit.read"), sync_to_thread=True, tags=["audit"])
def entry(request: AnyRequest, number: FromPath[int]) -> EntryProof:
    """Return one entry with the proof that it is in the log."""
    return office_of(request).heads.proof(number)


AUDIT = [head, growth, entry]
