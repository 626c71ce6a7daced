"""Line: the present link to control, for those who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from archipel.site.link.backoff import Backoff
from archipel.site.link.dial import Link
from archipel.spec import LinkError

T = TypeVar("T")


class Line:
    """Holds the link while there is one."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._link: Link | None = None
        self._up = asyncio.Event()

    def connect(self, link: Link) -> None:
        """Control has welcomed us on this link."""
        self._link = link
        self._up.set()

    def lose(self) -> None:
        """The link is gone."""
        self._link = None
        self._up.clear()

    async def link(self) -> Link:
        """Wait for a link."""
        while self._link is None:
            await self._up.wait()
        return self._link

    async def insist(self, call: Callable[[Link], Awaitable[T]]) -> T:
        """Return what `call` returns on a link, however often links break under it."""
        backoff = Backoff(self._random)
        while True:
            link = await self.link()
            try:
                return await call(link)
            except LinkError:
                await asyncio.sleep(backoff.next_seconds())
