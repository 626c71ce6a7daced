"""A site's folder: everything the site is, in one place that can be moved or backed up.

key.pem         the site's private key, made here, never sent (0600)
request.pem     its signing request: sent again as it is if the answer was lost
identity.json   name, control's address, certificate and CA (0600); written in one step
policy.toml     what may run here, if its owner says so; see archipel.spec.policy
journal.db      see archipel.site.journal
spool/          blobs by digest
bench/          what workers work on, each in a folder of its own
status.json     what the agent is doing, for `archipel status`
agent.lock      held by the one agent that may run on this folder
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from archipel.security import expiry_of, write_secret
from archipel.site.link.dial import Credentials
from archipel.spec import Name, ServedModel, SpecError, StateError, TrustError, Value, decode, encode
from archipel.spec.policy import FILE as POLICY
from archipel.spec.wire import Certificate, Working

_LOOKS, _LOOK_SECONDS = 10, 0.05


class Identity(Value, frozen=True, kw_only=True, tag_field="type", tag="identity/1"):
    """Who the site is, and whose it is."""

    site: Name
    control: str
    """Address of control's HTTPS port."""
    certificate: Certificate
    joined_with: str = ""
    """Hash of the secret of the token it joined with."""

    def validity(self) -> tuple[dt.datetime, dt.datetime]:
        """From when and until when (UTC) the certificate holds."""
        return expiry_of(self.certificate.certificate_pem)


class AgentStatus(Value, frozen=True, kw_only=True, tag_field="type", tag="agent-status/1"):
    """What an agent is doing."""

    site: Name
    pid: int
    state: Literal["connecting", "connected", "stopped"]
    since: float
    """When this state began, in seconds since the Unix epoch."""
    control: str
    """host:port it dials."""
    certificate_until: float
    working: tuple[Working, ...] = ()
    serving: tuple[ServedModel, ...] = ()
    sandbox: str = ""
    """How tasks are confined."""
    witnessed: int = 0
    """Entries of control's audit log in the newest head that was accepted."""
    audit: str = ""
    """Why the newest head was refused, if it was."""
    policy: str = ""
    """Digest of the site's policy that was read last; empty: it has none."""
    error: str = ""
    """What keeps it from going on, if anything does."""
    hint: str = ""


class SiteFolder:
    """Paths and files of a site's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = path / "key.pem"
        self.request = path / "request.pem"
        self.policy = path / POLICY
        self.journal = path / "journal.db"
        self.spool = path / "spool"

    def identity(self) -> Identity | None:
        """Return who the site is; None before it has joined."""
        path = self.path / "identity.json"
        return decode(path.read_bytes(), Identity) if path.exists() else None

    def require_identity(self) -> Identity:
        """Return who the site is; a StateError where it has not joined."""
        identity = self.identity()
        if identity is None:
            hint = "ask for a token (archipel invite NAME) and give it to: archipel join - --folder FOLDER"
            raise StateError(f"no site has joined in {self.path}", hint=hint)
        return identity

    def become(self, identity: Identity) -> None:
        """Store who the site is."""
        write_secret(self.path / "identity.json", encode(identity))

    def credentials(self) -> Credentials:
        """Return what the site proves itself with."""
        certificate = self.require_identity().certificate
        return Credentials(
            key_pem=self.key.read_bytes(),
            certificate_pem=certificate.certificate_pem.encode(),
            ca_pem=certificate.ca_pem.encode(),
        )

    def say(self, status: AgentStatus) -> None:
        """Write the agent's status, in one step; on a full disk the old one stays, for the work matters more."""
        partial = self.path / f".status.{os.getpid()}"
        with contextlib.suppress(OSError):
            partial.write_bytes(encode(status))
            partial.replace(self.path / "status.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; a StateError names the agent that already does."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.path / "agent.lock").open("a+") as file:
            if not _take(file):
                file.seek(0)
                holder = file.read().strip() or "unknown"
                hint = "stop that one first (archipel stop), or give this site a folder of its own"
                raise StateError(f"another agent (process {holder}) runs on {self.path}", hint=hint)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def is_held(self) -> bool:
        """Does an agent run on this folder?"""
        lock = self.path / "agent.lock"
        if not lock.exists():
            return False
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def read_status(path: Path) -> AgentStatus | None:
    """Return what the agent of a folder is doing; None where none ever ran. A dead agent is "stopped"."""
    folder = SiteFolder(path)
    try:
        status = decode((path / "status.json").read_bytes(), AgentStatus)
    except FileNotFoundError:
        return None
    if folder.is_held() or status.state == "stopped":
        return status
    return AgentStatus(
        site=status.site,
        pid=status.pid,
        state="stopped",
        since=status.since,
        control=status.control,
        certificate_until=status.certificate_until,
        sandbox=status.sandbox,
        witnessed=status.witnessed,
        audit=status.audit,
        policy=status.policy,
        error=status.error or "the agent ended without a word (killed?)",
        hint=status.hint or "start it again: it goes on where it stopped",
    )


def _take(file: IO[str]) -> bool:
    """Lock a file; someone who only looks (is_held) holds it for a moment, an agent for longer."""
    for _ in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def require_valid(identity: Identity, now: float) -> None:
    """Refuse to go on with a certificate that is no longer, or not yet, valid.

    Raises:
        TrustError: which of the two, and what to do.
    """
    begins, ends = (moment.timestamp() for moment in identity.validity())
    if now > ends:
        hint = f"ask for a token (archipel invite {identity.site}) and join again in the same folder; nothing is lost"
        message = f"the certificate of {identity.site} expired {now - ends:.0f} s ago by this machine's clock"
        raise TrustError(message, hint=hint)
    if now < begins:
        hint = "set this machine's clock (its time is behind control's)"
        raise TrustError(f"the certificate of {identity.site} becomes valid in {begins - now:.0f} s", hint=hint)


def require_key(folder: SiteFolder) -> None:
    """Refuse a folder whose key is gone."""
    if not folder.key.exists():
        raise SpecError(f"{folder.key} is missing", hint="restore it from a backup, or join again in a new folder")
