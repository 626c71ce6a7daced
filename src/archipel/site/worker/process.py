"""A warm worker process, seen from the agent: started once, given one task after another, restarted after a kill.

The process runs `python -m archipel.site.worker` with one thread for BLAS and the ML framework, enclosed by the site's
sandbox, on a bench of its own (bench.py). It ends when its stdin ends, and with the agent, however the agent ends.
What the user's code prints reaches the agent's stderr through the agent: the worker holds no file of the site's log.

Example:
    worker = WorkerProcess(Post(site="torgersen", folder=folder, spool=spool, guard=guard, data={...}))
    update, state = await worker.execute(task, recalled, progress)
    await worker.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from archipel.data.stores.spool import Spool
from archipel.site.sandbox import Enclosure, Group, Guard, View
from archipel.site.worker import frames
from archipel.site.worker.bench import Bench
from archipel.site.worker.bytecode import compile_once
from archipel.site.worker.launch import launch
from archipel.site.worker.noise import NOISE_KEY, noise_secret
from archipel.site.worker.turns import Turns
from archipel.spec import Blob, RoundTask, TaskError, TrustError, Update
from archipel.spec.failpoint import marker
from archipel.spec.quantities import Size

KILLS = 3
"""A task whose worker died this often is refused."""
_GRACE_SECONDS = 2.0
_LOG = logging.getLogger("archipel.site")
_REAPER = 1
"""Who a process in a process namespace has for a parent."""
_KILLED = 128
_PRINTED_BYTES = 64 * 1024
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class AbandonedError(Exception):
    """The work was given up on request."""


class _DiedError(Exception):
    """The process ended in the middle of a task."""

    def __init__(self, code: int, outgrown: Size | None) -> None:
        super().__init__(f"exit code {code}")
        self.code = code
        self.outgrown = outgrown
        """The memory that its control group has outgrown, if that is what killed it."""


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """Whose worker it is, and what it gets of its site."""

    site: str
    folder: Path
    """The site's."""
    spool: Spool
    guard: Guard
    data: dict[str, Path]
    """The data set its run is about, by name; none where the site does not have it."""
    hidden: tuple[Path, ...] = ()
    """The site's other data sets."""
    gpu: bool = False

    @property
    def benches(self) -> Path:
        """Where workers of the site have their benches."""
        return self.folder / "bench"


class WorkerProcess:
    """One process at a time; `execute` calls do not overlap."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._bench: Bench | None = None
        self._enclosure: Enclosure | None = None
        self._process: Process | None = None
        self._group: Group | None = None
        self._printing: asyncio.Task[None] | None = None
        self._task: RoundTask | None = None
        self._unwanted = False

    @property
    def pid(self) -> int | None:
        """The process (bubblewrap's own where there is one: the worker ends with it), None where there is none."""
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
        noise = None
        if task.job.privacy.is_noisy_in_training and task.kind == "train":
            noise = noise_secret(self._post.folder / NOISE_KEY, task)
        try:
            return await self._insist(frames.Execute(task=task, state=dict(state), noise=noise), progress)
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
        self, request: frames.Execute, progress: Callable[[float], None]
    ) -> tuple[Update, dict[str, Blob]]:
        deaths: list[_DiedError] = []
        while len(deaths) < KILLS:
            try:
                return await self._attempt(request, progress)
            except _DiedError as death:
                deaths.append(death)
                _LOG.warning("the worker of %s ended %s during %s", request.task.run, _how(death), request.task.kind)
                if self._unwanted:
                    raise AbandonedError from death
        raise _died(request.task, deaths[-1])

    async def _attempt(
        self, request: frames.Execute, progress: Callable[[float], None]
    ) -> tuple[Update, dict[str, Blob]]:
        process = self._process or await self._start(request.task.job.task.framework)
        task, bench = request.task, self._bench
        assert bench is not None
        await asyncio.to_thread(bench.give, [*task.blobs().values(), *request.state.values()], task.bundle)
        if self._unwanted:
            raise AbandonedError  # said before the worker was given anything
        await self._write(process, frames.frame(request))
        while True:
            match await self._next(process):
                case frames.Moved(done=done):
                    progress(done)
                case frames.Done(update=update, state=state):
                    _require_answer(task, update)
                    return await asyncio.to_thread(bench.collect, update, state)
                case frames.Failed(failure=None):
                    raise AbandonedError
                case frames.Failed(failure=failure):
                    assert failure is not None
                    raise failure.as_error()
                case other:
                    raise TaskError(f"the worker said {other!r} out of turn", hint="restart the agent")

    async def _start(self, framework: str = "numpy") -> Process:
        post = self._post
        await compile_once(framework)
        self._bench = bench = await asyncio.to_thread(Bench, post.benches, post.spool)
        view = _view(post, bench)
        post.guard.furnish(view)
        self._enclosure = enclosure = await asyncio.to_thread(post.guard.enclose, view)
        if enclosure.bounds is not None:
            self._group = await asyncio.to_thread(Group, enclosure.bounds)
        self._process = process = await launch(
            *enclosure.words,
            _python(),
            "-P",  # a file that lies about in the working directory is no module
            "-m",
            "archipel.site.worker",
            str(_REAPER if enclosure.is_parent_hidden else os.getpid()),
            environment={**enclosure.environment, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONUNBUFFERED": "1"},
            group=self._group,
        )
        self._printing = asyncio.create_task(_repeat(process))
        data = {name: str(path) for name, path in post.data.items()}
        begin = frames.Begin(site=post.site, datasets=data, bench=str(bench.folder), confinement=enclosure.confinement)
        await self._write(process, frames.frame(begin))
        ready = await self._next(process)
        if isinstance(ready, frames.Failed) and ready.failure is not None:
            raise ready.failure.as_error()
        if not isinstance(ready, frames.Ready):
            raise TaskError(f"the worker began with {ready!r}", hint="restart the agent")
        return process

    async def _write(self, process: Process, data: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(data)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._reap(process) from None

    async def _next(self, process: Process) -> frames.FromWorker:
        assert process.stdout is not None
        try:
            prefix = await process.stdout.readexactly(frames.PREFIX_BYTES)
            body = await process.stdout.readexactly(frames.length_of(prefix))
        except asyncio.IncompleteReadError:
            raise await self._reap(process) from None
        value: frames.FromWorker = frames.value_of(body, "agent")
        return value

    async def _reap(self, process: Process) -> _DiedError:
        outgrown = None
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                code = await process.wait()
        except TimeoutError:
            _kill(process)  # its pipes are closed but it lives: it is of no use
            code = await process.wait()
        if self._process is process:
            self._process = None
            if self._printing is not None:
                await asyncio.wait([self._printing], timeout=_GRACE_SECONDS)  # its last words
                self._printing.cancel()
            if self._bench is not None:
                await asyncio.to_thread(self._bench.remove)
            if self._group is not None:
                outgrown = await asyncio.to_thread(self._group.remove)
                self._group = None
        if code > _KILLED and self._enclosure is not None and self._enclosure.words:
            code = _KILLED - code  # bubblewrap ends as the worker did, and says a signal as shells do
        return _DiedError(code, outgrown)


async def _repeat(process: Process) -> None:
    """Print what the worker prints."""
    assert process.stderr is not None
    while piece := await process.stderr.read(_PRINTED_BYTES):
        os.write(sys.stderr.fileno(), piece)


def _view(post: Post, bench: Bench) -> View:
    turns, died = Turns.of(os.environ).files(), marker()
    return View(
        bench=bench.folder,
        results=bench.results,
        data=tuple(post.data.values()),
        hidden=(post.folder, *post.hidden),
        read=turns,
        write=() if died is None else (died,),
        gpu=post.gpu,
    )


def _require_answer(task: RoundTask, update: Update) -> None:
    """Refuse an answer to something else: the worker runs the task's code, which may say anything in its name."""
    if (update.run, update.round, update.site, update.kind) != (task.run, task.round, task.site, task.kind):
        hint = "read the task's code: it speaks in the worker's place"
        raise TrustError(f"the worker of {task.run} answered {task.kind!r} with something else", hint=hint)


def _kill(process: Process) -> None:
    # Not process.kill(): that polls first, and takes the exit code from asyncio if the process has just died.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _python() -> str:
    """Return this interpreter without the ".." of `../.venv/bin/python`: they lead through folders unseen inside."""
    return os.path.abspath(sys.executable)  # noqa: PTH100  # resolved it would be another environment's


def _died(task: RoundTask, death: _DiedError) -> TaskError:
    hint = "the site's log has its last words"
    which = f" (round {task.step})" if task.kind == "train" else ""
    if death.outgrown is not None:
        hint = "lower batch_size, or raise memory in [limits] of the site's policy; " + hint
        said = f"the task used more than {death.outgrown} of memory, all its processes together"
        return TaskError(f"{said}, {KILLS} times during {task.kind!r}{which}", hint=hint)
    if death.code == -signal.SIGKILL:
        hint = "most often memory runs out: give the site more, or lower batch_size; " + hint
    return TaskError(f"the worker ended {_how(death)} {KILLS} times during {task.kind!r}{which}", hint=hint)


def _how(death: _DiedError) -> str:
    if death.outgrown is not None:
        return f"for want of memory: more than {death.outgrown}"
    code = death.code
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
