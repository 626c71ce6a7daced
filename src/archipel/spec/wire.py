"""What sites and control say to each other, besides blobs.

A site dials in and holds one two-way stream (Attend). It says Hello once, then SiteMessages; control pushes
ControlMessages. Updates go through Submit (answered by a Receipt) after their blobs; blobs go through Put and Get.

    site                                   control
     │ Hello ─────────────────────────────▶ │
     │ ◀───────────────────────── Welcome   │   lease lengths
     │ ◀───────────────────────── LogGrowth │   the audit log's head; again as it grows
     │ SiteInventory ─────────────────────▶ │   what the site has to work with; again as that changes
     │ ◀───────────────────────── Assign    │   a RoundTask
     │ Beat (progress) ───────────────────▶ │   as often as the lease asks
     │ Put(blob) …  Submit(Update) ───────▶ │   Receipt
     │ ◀───────────────────────── Serve     │   which model to answer with
     │ ◀───────────────────────── Forget    │   a run is over for good
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec import errors
from archipel.spec.audit import LogGrowth
from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.errors import ArchipelError
from archipel.spec.inventory import SiteInventory
from archipel.spec.model import ModelVersion, ServedModel
from archipel.spec.round import Blob, RoundTask

CHUNK_BYTES = 1024 * 1024
"""Blobs move in pieces of this size."""
BUSY_LEASE_SECONDS = 1.0
"""A site that holds work is lost when it has been silent for this long…"""
IDLE_LEASE_SECONDS = 30.0
"""…and one without work for this long. Sites beat three times a lease."""


Waits = Literal["", "approval", "hours", "policy"]
"""What keeps a site from beginning: a person there has not approved the job; it is not the time; the site's policy
cannot be read. Empty: nothing does."""


class Working(Value, frozen=True, kw_only=True):
    """Progress of one piece of work: seen movement is what keeps a slow site alive."""

    run: Name
    round: int
    """Number in the run, from 0 over all kinds; people are told the kind, and a training round's own number."""
    done: Annotated[float, Meta(ge=0, le=1)]
    """Share of the work that is done."""
    waits: Waits = ""


class Hello(Value, frozen=True, kw_only=True, tag_field="type", tag="hello/1"):
    """First message of a site on a stream."""

    site: Name
    agent: str
    """Version of archipel at the site."""
    datasets: tuple[Name, ...] = ()
    working: tuple[Working, ...] = ()
    """Work it still holds from before a break."""
    serving: tuple[ServedModel, ...] = ()
    remembers: tuple[Name, ...] = ()
    """Runs it keeps more of than the copy it may serve; control answers Forget for those that are over."""
    witnessed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Entries of the audit log in the newest head it keeps; control answers with a LogGrowth from there on."""


class Beat(Value, frozen=True, kw_only=True, tag_field="type", tag="beat/1"):
    """I am here, and this is how far I am."""

    working: tuple[Working, ...] = ()
    serving: tuple[ServedModel, ...] = ()


class Note(Value, frozen=True, kw_only=True, tag_field="type", tag="note/1"):
    """A line for the operator, shown by `archipel logs`."""

    what: Annotated[str, Meta(pattern=r"^site(\.[a-z]+)+$(?!\n)", max_length=64)]
    """Always "site.…": control alone says what happens to runs, models and people."""
    level: Literal["info", "warning", "error"] = "info"
    run: Name | None = None
    detail: dict[str, bool | int | float | str | None] = field(default_factory=dict)


class Welcome(Value, frozen=True, kw_only=True, tag_field="type", tag="welcome/1"):
    """Control's answer to Hello."""

    control: str
    """Version of archipel in control."""
    busy_lease_seconds: float = BUSY_LEASE_SECONDS
    idle_lease_seconds: float = IDLE_LEASE_SECONDS


class Assign(Value, frozen=True, kw_only=True, tag_field="type", tag="assign/1"):
    """Do this. Repeated after a break; the key (run, round, site) makes it one piece of work."""

    task: RoundTask


class Cancel(Value, frozen=True, kw_only=True, tag_field="type", tag="cancel/1"):
    """Stop working on a run. An answer that is there is still delivered, and what is remembered stays."""

    run: Name


class Forget(Value, frozen=True, kw_only=True, tag_field="type", tag="forget/1"):
    """A run is over for good: keep nothing of it but the site's own copy of its model, which may be served."""

    run: Name


class Serve(Value, frozen=True, kw_only=True, tag_field="type", tag="serve/1"):
    """Serve this version; the site answers with its personalised copy where `copy` says so and it has one."""

    model: ModelVersion
    copy: Literal["global", "personalised"]


SiteMessage = Hello | Beat | Note | SiteInventory
ControlMessage = Welcome | Assign | Cancel | Forget | Serve | LogGrowth


class Offer(Value, frozen=True, kw_only=True, tag_field="type", tag="offer/1"):
    """A site announces a blob it is about to send; the answer says from which byte (size_bytes: nothing is missing)."""

    run: Name
    blob: Blob


class Offset(Value, frozen=True, kw_only=True, tag_field="type", tag="offset/1"):
    """Bytes of the offered blob that control already holds."""

    have_bytes: Annotated[int, Meta(ge=0)]


class Want(Value, frozen=True, kw_only=True, tag_field="type", tag="want/1"):
    """A site asks for a blob from a byte on."""

    digest: Digest
    offset: Annotated[int, Meta(ge=0)] = 0


class Receipt(Value, frozen=True, kw_only=True, tag_field="type", tag="receipt/1"):
    """Control's word on a submitted Update or Refusal. Each of the three lets the site clear its spool."""

    status: Literal["accepted", "duplicate", "stale"]
    reason: str = ""


class Failure(Value, frozen=True, kw_only=True, tag_field="type", tag="failure/1"):
    """An error of the tree, as it crosses the wire (in the details of a gRPC status, or as an HTTP body)."""

    error: str
    message: str
    hint: str = ""

    def as_error(self) -> ArchipelError:
        """Return the error it names; a class this version does not know becomes the tree's base."""
        found = getattr(errors, self.error, None)
        kind = found if isinstance(found, type) and issubclass(found, ArchipelError) else ArchipelError
        return kind(self.message, hint=self.hint)


class Enrolment(Value, frozen=True, kw_only=True, tag_field="type", tag="enrolment/1"):
    """What a joining site sends (HTTPS, pinned by the token): the token's secret and a signing request."""

    site: Name
    secret: str
    csr_pem: str


class Certificate(Value, frozen=True, kw_only=True, tag_field="type", tag="certificate/1"):
    """What it gets: its short-lived certificate and the CA's."""

    certificate_pem: str
    ca_pem: str
    sites_address: str
    """host:port of the gRPC service for sites."""
