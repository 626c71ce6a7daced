"""What wraps a data key: a key in a file, or a command that asks a key management service. Chosen by a URL.

    file:seal.key             32 bytes in hex, mode 0600, made where there is none; a path is relative to the state
    command:PROGRAM ARG …     run with one more argument, `wrap` or `unwrap`; the key goes in on stdin and out on stdout

Files wrap as RFC 3394 (AES key wrap). What a command does is its own affair; whether it gave back the right key is
checked by the keyring.

Example:
    >>> wrapping_of("command:/usr/local/bin/our-kms --key archipel", Path("/srv/archipel"))
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from archipel.security.keys import write_secret
from archipel.security.sealing.chunks import KEY_BYTES
from archipel.spec import SpecError, TrustError, UnknownNameError

COMMAND_SECONDS = 60.0
_RESTORE = "restore it from a backup; without it nothing that was sealed can be opened"


class Wrapping(Protocol):
    """A key-encryption key, wherever it is."""

    def wrap(self, key: bytes) -> bytes:
        """Return a data key in a form that may lie on the disk."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the data key.

        Raises:
            TrustError: the key-encryption key is missing, or another one.
        """
        ...


class FileWrapping:
    """A key in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        """Make the key, unless there is one."""
        if not self._path.exists():
            write_secret(self._path, os.urandom(KEY_BYTES).hex().encode() + b"\n")

    def wrap(self, key: bytes) -> bytes:
        """Wrap as RFC 3394."""
        return aes_key_wrap(self._key(), key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Unwrap as RFC 3394."""
        try:
            return aes_key_unwrap(self._key(), wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise TrustError(f"the key in {self._path} is another one than this was sealed with", hint=_RESTORE) from (
                error
            )

    def _key(self) -> bytes:
        try:
            text = self._path.read_text(encoding="ascii")
            mode = self._path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise TrustError(f"the key {self._path} cannot be read: {error}", hint=_RESTORE) from error
        if mode & 0o077:
            raise TrustError(
                f"others may read the key {self._path}", hint=f"chmod 600 {self._path}, then archipel rekey"
            )
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise TrustError(f"{self._path} does not hold {KEY_BYTES} bytes in hex", hint=_RESTORE)
        return key


class CommandWrapping:
    """A command that wraps and unwraps."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def wrap(self, key: bytes) -> bytes:
        """Ask the command."""
        return self._ask("wrap", key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Ask the command."""
        return self._ask("unwrap", wrapped)

    def _ask(self, verb: str, data: bytes) -> bytes:
        hint = f"try it by hand: {shlex.join(self._words)} {verb}"
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                [*self._words, verb], input=data, capture_output=True, timeout=COMMAND_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrustError(f"the key's command failed to {verb}: {error}", hint=hint) from error
        if done.returncode or not done.stdout:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            said = last[0] if last else "nothing on stdout"
            raise TrustError(f"the key's command failed to {verb} (exit code {done.returncode}): {said}", hint=hint)
        return done.stdout


def wrapping_of(url: str, folder: Path, *, make: bool = False) -> Wrapping:
    """Return what a URL names; `folder` is what relative paths begin at, `make`: make a key file where there is none.

    Raises:
        SpecError: nobody knows this kind of URL.
    """
    kind, _, rest = url.partition(":")
    if not rest.strip():
        raise SpecError(f"no key is named by {url!r}", hint="write file:PATH, command:PROGRAM ARGUMENTS or none")
    match kind:
        case "file":
            file = FileWrapping(folder / rest.removeprefix("//"))
            if make:
                file.make()
            return file
        case "command":
            return CommandWrapping(shlex.split(rest))
    raise UnknownNameError.of("kind of key", kind, ["file", "command"])
