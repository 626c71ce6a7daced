"""Settings of a control plane: where it keeps things, where it listens, how it is called. Arguments only, no globals.

Example:
    >>> from pathlib import Path
    >>> Settings(state=Path("/srv/archipel")).database_url
    'sqlite:////srv/archipel/control.db'
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from archipel.security.sealing import DEFAULT_KEY, NO_KEY

Port = Annotated[int, Meta(ge=0, le=65535)]

GIB = 1024**3
_ALL_OR_LOOPBACK = frozenset({"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})  # noqa: S104 - to tell them apart


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One control plane; every field has a default but the state folder."""

    state: Path
    """Folder of everything that is not in the database or the artefact store: keys, spool, lock, operator.json."""
    database: str | None = None
    """SQLAlchemy URL such as "postgresql+psycopg://user@host/archipel"; None: SQLite in the state folder."""
    artefacts: str | None = None
    """URL of the artefact store such as "s3://bucket/prefix"; None: a folder in the state folder."""
    artefact_options: dict[str, str] = field(default_factory=dict)
    """Options of the object store (endpoint, access_key_id, …); never logged."""
    key: str | None = None
    """URL of the key that wraps the data key, such as "file:/mnt/key/archipel.key" or "command:our-kms".

    "none": nothing is encrypted. None: as the keyring in the state folder says; where there is none, a key file is made
    beside it if the artefacts lie elsewhere (S3), and else nothing is encrypted."""
    oidc: Path | None = None
    """File that names an OIDC issuer whose people may log in, and as what; None: people log in with passwords alone."""
    host: str = "127.0.0.1"
    """Address both ports listen on."""
    http_port: Port = 7400
    """REST over HTTPS, for people and tools; 0: any free port."""
    sites_port: Port = 7401
    """gRPC over mutual TLS, for sites; 0: any free port."""
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Host names and addresses in the server's certificate; the first one is what sites and operators are told."""
    max_bundle_bytes: int = 64 * 1024 * 1024
    """Largest bundle of task code that is taken."""
    max_answer_bytes: int = 64 * GIB
    """The most a site may send for one task, all its blobs together."""

    @property
    def local_name(self) -> str:
        """How this machine itself calls the address that is listened on."""
        return "localhost" if self.host in _ALL_OR_LOOPBACK else self.host

    @property
    def database_url(self) -> str:
        """The database's URL, filled in."""
        return self.database or f"sqlite:///{self.state.absolute() / 'control.db'}"

    @property
    def first_key(self) -> str:
        """Which key is made where none is named: what leaves the machine is encrypted."""
        scheme, colon, _ = (self.artefacts or "").partition("://")
        return DEFAULT_KEY if colon and scheme != "file" else NO_KEY

    @property
    def artefacts_url(self) -> str:
        """The artefact store's URL, filled in."""
        return self.artefacts or str(self.state.absolute() / "artefacts")
