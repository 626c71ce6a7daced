"""Launch: a process that leaves nothing behind, for its pipes stay open as long as anything of it lives.

asyncio takes a process for over once its pipes are closed, too. Bubblewrap that is killed in its first milliseconds
leaves a child that waits for it for ever, with the pipes in its hands; so may a task that starts processes. Hence a
process leads a group of its own, which ends with it; what has left the group hears the end of its stdin. Nothing leaves
a control group, where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping

from archipel.site.sandbox import Group

_READ_AHEAD_BYTES = 64 * 1024


class _Leader(SubprocessStreamProtocol):
    """Ends the group of a process that has ended."""

    def __init__(self, group: Group | None, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_READ_AHEAD_BYTES, loop=loop)
        self._leader = 0
        self._group = group

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._leader = transport.get_pid()

    def process_exited(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left, or none of ours
            os.killpg(self._leader, signal.SIGKILL)
        if self._group is not None:
            self._group.kill()
        if self.stdin is not None:
            self.stdin.close()
        super().process_exited()


async def launch(*words: str, environment: Mapping[str, str], group: Group | None = None) -> Process:
    """Start a program with pipes for stdin, stdout and stderr, at the head of a group of its own, and in `group`."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: _Leader(group, loop),
        *(() if group is None else group.words()),
        *words,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        env=environment,
    )
    return Process(transport, protocol, loop)
