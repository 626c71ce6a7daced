"""The portal's server: uvicorn on loopback, until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from archipel.site.owner.app import Opened, make_app
from archipel.spec import StateError

HOST = "127.0.0.1"


def serve_portal(portal: Opened, *, token: str, by: str, port: int, said: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM; `said` is given the address before the first request can come.

    Raises:
        StateError: the port is taken.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise StateError(f"port {port} is taken: {error}", hint="leave --port out, or name another one") from error
    with listening:
        listening.listen(128)
        said(f"http://{HOST}:{listening.getsockname()[1]}")
        app = make_app(portal, token=token, by=by)
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")).run(
            [listening]
        )
