"""The inference server: uvicorn inside the agent's event loop, on loopback, on a port that stays the same if it can.

Example:
    server = await InferenceServer.start(models, port=0)
    server.url                                   # http://127.0.0.1:40123
    await server.stop()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Self

import uvicorn

from archipel.site.inference.app import make_app
from archipel.site.inference.models import Models
from archipel.spec import StateError

HOST = "127.0.0.1"
_TICK_SECONDS = 0.005


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: ending is the agent's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class InferenceServer:
    """A running server."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self.port = port

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    @classmethod
    async def start(cls, models: Models, port: int = 0) -> Self:
        """Start to answer with `models`, on `port` if it is free, else on a free one.

        Raises:
            StateError: it ended before it answered; an error of its own is raised as it is.
        """
        config = uvicorn.Config(make_app(models), log_config=None, access_log=False, lifespan="off", ws="none")
        server = _Server(config)
        listening = _listen(port)
        task = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
        # uvicorn tells nobody when it has started; before that it cannot be stopped either.
        while not server.started and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(_TICK_SECONDS)
        if not server.started:
            listening.close()
            task.result()
            raise StateError("the inference server ended before it answered", hint="the site's log says why")
        return cls(server, task, listening.getsockname()[1])

    async def stop(self) -> None:
        """Stop answering; requests under way are finished."""
        self._server.should_exit = True
        await self._task


def _listen(port: int) -> socket.socket:
    for candidate in dict.fromkeys((port, 0)):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, candidate))
        except OSError:
            listening.close()
            continue
        listening.listen(128)
        listening.setblocking(False)  # noqa: FBT003 (the socket module has no keyword for it)
        return listening
    raise AssertionError("a free port is always found")
