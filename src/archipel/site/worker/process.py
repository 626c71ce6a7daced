"""A warm worker process, seen from the agent: started once, given one task after another, restarted after a kill.

The process runs `python -m archipel.site.worker` with one thread for BLAS and the ML framework, in the agent's process
group's care: it ends when its stdin ends, and with the agent, however the agent ends. What the user's code prints
goes to the agent's stderr.

Example:
    worker = WorkerProcess(Begin(site="torgersen", datasets={...}, spool="..."))
    update, state = await worker.execute(task, recalled, progress)
    await worker.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping

from archipel.site.worker import frames
from archipel.spec import Blob, RoundTask, TaskError, Update

KILLS = 3
"""A task whose worker died this often is refused."""
_GRACE_SECONDS = 2.0
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class AbandonedError(Exception):
    """The work was given up on request."""


class _DiedError(Exception):
    """The process ended in the middle of a task."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class WorkerProcess:
    """One process at a time; `execute` calls do not overlap."""

    def __init__(self, begin: frames.Begin) -> None:
        self._begin = begin
        self._process: Process | None = None
        self._task: RoundTask | None = None
        self._unwanted = False

    @property
    def pid(self) -> int | None:
        """The process, None where there is none."""
        return None if self._process is None else self._process.pid

    async def execute(
        self, task: RoundTask, state: Mapping[str, Blob], progress: Callable[[float], None]
    ) -> tuple[Update, dict[str, Blob]]:
        """Do a task, again in a new process if one dies; return the update and the new state.

        Raises:
            ArchipelError: what the work ended in; TaskError if the process died KILLS times.
            Abandoned: `abandon` was called.
        """
        self._task, self._unwanted = task, False
        request = frames.frame(frames.Execute(task=task, state=dict(state)))
        try:
            return await self._insist(task, request, progress)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            self._task = None

    def abandon(self) -> None:
        """Ask the work at hand to stop; `execute` raises Abandoned. Unheard after a grace, the process is killed."""
        process, task = self._process, self._task
        if process is None or process.stdin is None or task is None:
            return
        self._unwanted = True
        process.stdin.write(frames.frame(frames.Abandon()))

        def insist() -> None:
            if self._task is task:
                _kill(process)

        asyncio.get_running_loop().call_later(_GRACE_SECONDS, insist)

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            _kill(self._process)
            await self._reap(self._process)

    async def _insist(
        self, task: RoundTask, request: bytes, progress: Callable[[float], None]
    ) -> tuple[Update, dict[str, Blob]]:
        codes: list[int] = []
        while len(codes) < KILLS:
            try:
                return await self._attempt(request, progress)
            except _DiedError as death:
                codes.append(death.code)
                if self._unwanted:
                    raise AbandonedError from death
        raise _died(task, codes[-1])

    async def _attempt(self, request: bytes, progress: Callable[[float], None]) -> tuple[Update, dict[str, Blob]]:
        process = self._process or await self._start()
        await self._write(process, request)
        while True:
            match await self._next(process):
                case frames.Moved(done=done):
                    progress(done)
                case frames.Done(update=update, state=state):
                    return update, state
                case frames.Failed(failure=None):
                    raise AbandonedError
                case frames.Failed(failure=failure):
                    assert failure is not None
                    raise failure.as_error()
                case other:
                    raise TaskError(f"the worker said {other!r} out of turn", hint="restart the agent")

    async def _start(self) -> Process:
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONUNBUFFERED": "1"}
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file that lies about in the working directory is no module
            "-m",
            "archipel.site.worker",
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
        )
        await self._write(process, frames.frame(self._begin))
        ready = await self._next(process)
        if not isinstance(ready, frames.Ready):
            raise TaskError(f"the worker began with {ready!r}", hint="restart the agent")
        return process

    async def _write(self, process: Process, data: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(data)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise _DiedError(await self._reap(process)) from None

    async def _next(self, process: Process) -> frames.FromWorker:
        assert process.stdout is not None
        try:
            prefix = await process.stdout.readexactly(frames.PREFIX_BYTES)
            body = await process.stdout.readexactly(frames.length_of(prefix))
        except asyncio.IncompleteReadError:
            raise _DiedError(await self._reap(process)) from None
        value: frames.FromWorker = frames.value_of(body, "agent")
        return value

    async def _reap(self, process: Process) -> int:
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                code = await process.wait()
        except TimeoutError:
            _kill(process)  # its pipes are closed but it lives: it is of no use
            code = await process.wait()
        if self._process is process:
            self._process = None
        return code


def _kill(process: Process) -> None:
    # Not process.kill(): that polls first, and takes the exit code from asyncio if the process has just died.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _died(task: RoundTask, code: int) -> TaskError:
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    hint = "the site's log has its last words"
    if code == -signal.SIGKILL:
        hint = "most often memory runs out: give the site more, or lower batch_size; " + hint
    which = f" (round {task.step})" if task.kind == "train" else ""
    return TaskError(f"the worker ended {how} {KILLS} times during {task.kind!r}{which}", hint=hint)
