"""The keyring of a folder: its data key, wrapped, and the URL of what wraps it. One file, replaced in one step.

    keyring.json      {"type": "keyring/1", "key": "file:seal.key", "id": …, "wrapped": …}      mode 0600

A folder (control's state, a site's folder) has one data key for all it seals, so a blob is the same file in the spool
and in the artefact store. Who has the keyring and its key can read everything; who lacks either, nothing: back up both,
apart from each other.

Example:
    >>> sealing = open_sealing(Path("/srv/archipel"), DEFAULT_KEY)     # made at the first call
    >>> sealing = open_sealing(Path("/srv/archipel"), None)            # as the keyring says
    >>> rekey(Path("/srv/archipel"), "command:our-kms")
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from archipel.security.keys import write_secret
from archipel.security.sealing.chunks import KEY_BYTES, Sealing
from archipel.security.sealing.wrapping import wrapping_of
from archipel.spec import SpecError, StateError, TrustError, Value, decode, encode, failpoint

KEYRING = "keyring.json"
DEFAULT_KEY = "file:seal.key"
NO_KEY = "none"
"""In the place of a key's URL: nothing is sealed. A keyring that says so was made because somebody asked for that."""


class Keyring(Value, frozen=True, kw_only=True, tag_field="type", tag="keyring/1"):
    """A wrapped data key."""

    key: str
    """URL of what wraps it."""
    id: str
    """Of the data key, in hex; tells whether what was unwrapped is it."""
    wrapped: bytes


def open_sealing(folder: Path, url: str | None, *, first: str = NO_KEY) -> Sealing | None:
    """Return what seals the blobs of `folder`; None where nothing is to be sealed, or ever was.

    The first call with the URL of a key (or with none, and one in `first`) makes the data key and the keyring, and a
    `file:` key too. Later ones go by the keyring. NO_KEY is remembered there too, until a key is named.

    Raises:
        StateError: the folder is sealed under another URL than `url`.
        TrustError: the key is missing, another one, or its command fails.
    """
    path = folder / KEYRING
    keyring = _read(path) if path.exists() else None
    if keyring is None or keyring.key == NO_KEY:
        chosen = url or (first if keyring is None else NO_KEY)
        if chosen != NO_KEY:
            return _made(folder, chosen)
        if keyring is None and url == NO_KEY:
            write_secret(path, encode(Keyring(key=NO_KEY, id="", wrapped=b"")))
        return None
    if url is not None and url != keyring.key:
        message = f"what is in {folder} is sealed under {keyring.key!r}, not {url!r}"
        raise StateError(message, hint=f"leave out the key, or change it: archipel rekey {folder} --key URL")
    return Sealing(_unwrapped(folder, keyring))


def rekey(folder: Path, url: str | None = None) -> str:
    """Wrap the data key of `folder` under another key; return its URL. No data are read or written.

    Without a URL a new key file is made beside the keyring. The old key opens the folder until the one step in which
    the keyring is replaced, the new one from then on; neither key is removed.

    Raises:
        StateError: nothing is sealed there.
        TrustError: the old key does not open the keyring, or the new one does not give back what it wrapped.
    """
    if url == NO_KEY:
        raise SpecError("what is sealed stays sealed", hint="give the URL of another key, or none for a new key file")
    path = folder / KEYRING
    keyring = _read(path) if path.exists() else None
    if keyring is None or keyring.key == NO_KEY:
        hint = "give the state folder, or the folder of a site; --key of `up` and `join` names a first key"
        raise StateError(f"nothing is sealed in {folder}", hint=hint)
    data_key = _unwrapped(folder, keyring)
    new = url or f"file:seal-{secrets.token_hex(4)}.key"
    fresh = _wrapped(folder, new, data_key)
    _unwrapped(folder, fresh)
    failpoint("security.rekey.before_replace")
    write_secret(path, encode(fresh))
    failpoint("security.rekey.after_replace")
    return new


def _made(folder: Path, url: str) -> Sealing:
    data_key = os.urandom(KEY_BYTES)
    keyring = _wrapped(folder, url, data_key)
    _unwrapped(folder, keyring)
    write_secret(folder / KEYRING, encode(keyring))
    return Sealing(data_key)


def _wrapped(folder: Path, url: str, data_key: bytes) -> Keyring:
    wrapped = wrapping_of(url, folder, make=True).wrap(data_key)
    return Keyring(key=url, id=Sealing(data_key).id.hex(), wrapped=wrapped)


def _unwrapped(folder: Path, keyring: Keyring) -> bytes:
    data_key = wrapping_of(keyring.key, folder).unwrap(keyring.wrapped)
    if len(data_key) != KEY_BYTES or Sealing(data_key).id.hex() != keyring.id:
        message = f"the key {keyring.key!r} does not open {folder / KEYRING}"
        raise TrustError(message, hint="bring back the key it was sealed under, or the keyring that belongs to the key")
    return data_key


def _read(path: Path) -> Keyring:
    try:
        return decode(path.read_bytes(), Keyring)
    except SpecError as error:
        raise TrustError(f"{path} is not a keyring: {error.message}", hint="restore it from a backup") from error
