"""Artefacts: what is kept (models, bundles, exports), in a local folder or in S3, GCS or Azure, by one URL.

obstore (the Rust object_store) speaks to all of them; keys are "ab/abcdef…" by digest, as in the spool. What comes
back is verified against its digest while it is read.

Example:
    >>> store = Artefacts.open("file:///srv/archipel/artefacts")
    >>> store = Artefacts.open("s3://models/archipel", endpoint="http://127.0.0.1:8333", ...)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from archipel.data.stores.spool import Spool, full_disk_named, sync_folder
from archipel.security.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Envelope,
    Sealing,
    chunk_place,
    is_sealed,
    sealed_bytes,
)
from archipel.spec import Blob, LinkError, SealError, SpecError, StateError

PIECE_BYTES = 4 * 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
_CLIENT_OPTIONS = frozenset({"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout"})
UPLOADS = 2
"""Pieces on their way at once: with obstore's own dozen, an upload would hold a hundred megabytes."""


class Artefacts:
    """Content-addressed blobs in an object store."""

    def __init__(
        self, store: ObjectStore, place: str, folder: Path | None = None, sealing: Sealing | None = None
    ) -> None:
        self._sealing = sealing
        self._store = store
        self._place = place
        self._folder = folder

    @classmethod
    def open(cls, url: str, sealing: Sealing | None = None, **options: Any) -> Artefacts:
        """Open a store by URL; `options` are object_store's (endpoint, access_key_id, region, …)."""
        parsed = urlparse(url)
        if parsed.scheme in {"", "file"}:
            folder = Path(unquote(parsed.path if parsed.scheme else url)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            return cls(LocalStore(prefix=folder), str(folder), folder, sealing)
        return cls(_remote(url, options), url, sealing=sealing)

    def has(self, digest: str) -> bool:
        """Is the blob here?"""
        try:
            obstore.head(self._store, _key(digest))
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise self._unreachable(error) from error
        return True

    def put_file(self, path: Path, blob: Blob) -> None:
        """Put the file of a spool under the same data key in; repeating it is harmless.

        What is sealed there is sealed here: on one file system nothing is copied, elsewhere the sealed bytes are sent.
        """
        if self._folder is not None and _linked(path, self._folder / _key(blob.digest)):
            return
        with full_disk_named(Path(self._place)):
            try:
                obstore.put(self._store, _key(blob.digest), path, chunk_size=UPLOAD_BYTES, max_concurrency=UPLOADS)
            except BaseError as error:
                _raise_if_full(error)
                raise self._unreachable(error) from error

    def read(self, digest: str, offset: int = 0, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """Yield the bytes from `offset` on.

        Raises:
            StateError: the blob is not here.
            SealError: it was changed, or sealed by another key.
            LinkError: the store cannot be reached.
        """
        try:
            size = obstore.head(self._store, _key(digest))["size"]
            header = b"" if self._sealing is None else self._range(digest, 0, min(HEADER_BYTES, size))
            if self._sealing is not None and is_sealed(header):
                yield from self._opened(digest, self._sealing.opened(header, digest), size, offset, piece_bytes)
            else:
                if self._sealing is not None:
                    self._require_true(digest, size)
                for start in range(offset, size, piece_bytes):
                    yield self._range(digest, start, min(start + piece_bytes, size))
        except FileNotFoundError as error:
            raise StateError(
                f"artefact {digest} is not in {self._place}", hint="restore the artefact store from its backup"
            ) from error
        except BaseError as error:
            raise self._unreachable(error) from error

    def _opened(self, digest: str, envelope: Envelope, size: int, offset: int, piece_bytes: int) -> Iterator[bytes]:
        """Yield the plain bytes of a sealed blob, some chunks a request."""
        if size != sealed_bytes(envelope.size_bytes):
            raise SealError(f"artefact {digest} is cut short, or too long", hint="restore it from its backup")
        together = max(1, piece_bytes // CHUNK_BYTES)
        for first in range(offset // CHUNK_BYTES, envelope.chunks, together):
            last = min(first + together, envelope.chunks)
            sealed = memoryview(self._range(digest, chunk_place(first), min(chunk_place(last), size)))
            chunks = (sealed[start : start + SEALED_CHUNK_BYTES] for start in range(0, len(sealed), SEALED_CHUNK_BYTES))
            plain = b"".join(envelope.open(first + number, chunk) for number, chunk in enumerate(chunks))
            if piece := plain[max(0, offset - first * CHUNK_BYTES) :]:
                yield piece

    def _require_true(self, digest: str, size: int) -> None:
        """Hold a blob that was stored before there was a key against its digest, all of it, before any is believed."""
        found = hashlib.sha256()
        for start in range(0, size, PIECE_BYTES):
            found.update(self._range(digest, start, min(start + PIECE_BYTES, size)))
        if f"sha256:{found.hexdigest()}" != digest:
            hint = "restore it from its backup"
            raise SealError(f"artefact {digest} is neither sealed nor what its digest says", hint=hint)

    def _range(self, digest: str, start: int, end: int) -> bytes:
        return bytes(obstore.get_range(self._store, _key(digest), start=start, end=end)) if start < end else b""

    def fetch(self, blob: Blob, spool: Spool) -> memoryview:
        """Return all bytes of a blob, brought into the spool first."""
        self.bring(blob, spool)
        return spool.view(blob.digest)

    def bring(self, blob: Blob, spool: Spool) -> None:
        """Bring a blob into the spool (where it is verified) if it is not there yet."""
        if not spool.has(blob.digest):
            with spool.receive(blob) as incoming:
                for piece in self.read(blob.digest, offset=incoming.size):
                    incoming.write(piece)

    def drop(self, digest: str) -> None:
        """Remove a blob; absent is fine.

        Raises:
            LinkError: the store cannot be reached.
        """
        try:
            obstore.delete(self._store, _key(digest))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseError) -> LinkError:
        reason = str(error).splitlines()[0]
        return LinkError(f"the artefact store {self._place} failed: {reason}", hint="check its address and credentials")


def _remote(url: str, options: dict[str, Any]) -> ObjectStore:
    """Open an object store; options about the connection go to its client, the rest to the store."""
    client = {name: value for name, value in options.items() if name in _CLIENT_OPTIONS}
    rest = {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS}
    hint = "use object_store's own names, such as endpoint, region, access_key_id, secret_access_key, allow_http"
    try:
        return from_url(url, client_options=client, **rest)  # type: ignore[call-overload,no-any-return]
    except (BaseError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"the artefact store {url} cannot be opened: {reason}", hint=hint) from error
    except BaseException as error:
        # An option nobody knows is a panic of the Rust side, which is not an Exception.
        if type(error).__name__ != "PanicException":
            raise
        names = ", ".join(sorted(rest))
        raise SpecError(f"the artefact store {url} does not know one of: {names}", hint=hint) from error


def _key(digest: str) -> str:
    name = digest.removeprefix("sha256:")
    return f"{name[:2]}/{name}"


def _linked(path: Path, target: Path) -> bool:
    """Give a file a second name: blobs never change, so store and spool may share one. False: not possible here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(path)
    except FileExistsError:
        return True
    except FileNotFoundError:
        raise
    except OSError:
        return False
    sync_folder(target.parent)
    return True


def _raise_if_full(error: BaseError) -> None:
    """Raise the operating system's own "disk full" where obstore has wrapped it."""
    if "No space left on device" in str(error):
        raise OSError(28, "No space left on device") from error
