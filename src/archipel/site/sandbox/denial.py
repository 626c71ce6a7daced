"""How a task that runs into a wall learns which: errors that name the sandbox."""

from __future__ import annotations

import errno
import socket
import sys

_REFUSED = {errno.EPERM, errno.EACCES, errno.EROFS}
_WALLS = "the site runs tasks in a sandbox: their own data set, code and /tmp are there, no network and nothing else"
_NETWORK = "the site's sandbox gives tasks no network"


class NetworkDeniedError(PermissionError):
    """A task wanted a network connection; libraries that can do without one may catch it like any OSError."""


def name_denials() -> None:
    """Let whoever opens a socket in this process, or looks up a name, meet a NetworkDeniedError."""
    sys.addaudithook(_listen)


def denial_of(error: BaseException | None) -> str:
    """Return what the sandbox has to do with an error of a task's, as a hint; "" where it has nothing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NetworkDeniedError | socket.gaierror):
            return _NETWORK
        if isinstance(error, OSError) and error.errno in _REFUSED:
            return _WALLS
        error = error.__cause__ or error.__context__
    return ""


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith("socket."):
        return
    is_network = event == "socket.__new__" and arguments[1] in {socket.AF_INET, socket.AF_INET6}
    if is_network or event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        raise NetworkDeniedError(errno.EACCES, _NETWORK)
