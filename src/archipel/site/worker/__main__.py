"""The worker process: `python -m archipel.site.worker PARENT_PID`, frames on stdin and stdout; see frames.py.

Before it starts a thread or loads any task code it closes the site's sandbox behind itself.
It ends with its parent: at the end of stdin, and on Linux also by a signal the kernel sends when the parent dies.
What the user's code prints goes to stderr. An exception of the user's code crosses with its place and kind only: its
text may hold data, so it stays in the site's log.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

from archipel.site.link.protocol import failure_of
from archipel.site.sandbox import confine, denial_of
from archipel.site.worker import frames
from archipel.site.worker.bench import BenchBlobs
from archipel.site.worker.execute import Worker
from archipel.site.worker.memory import CarriedMemory
from archipel.site.worker.turns import Turns
from archipel.spec import ArchipelError, RoundTask, TaskError, TrustError, failpoint

_PR_SET_PDEATHSIG = 1
_SMALLEST_MOVE = 0.01


class _UnwantedError(BaseException):
    """Raised inside the task to unwind it; no handler of the user's takes it for an error."""


class _Inbox:
    """Reads stdin in a thread, so that the end of stdin ends the process even in the middle of a task."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.unwanted = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Any:
        """Wait for the next frame."""
        return self._frames.get()

    def _read(self) -> None:
        while (value := frames.read_frame(self._stream, "worker")) is not None:
            if isinstance(value, frames.Abandon):
                self.unwanted.set()
            else:
                self.unwanted.clear()  # here, in the order of the stream: it was about the task before
                self._frames.put(value)
        os._exit(0)


class _Outbox:
    """Writes frames to what was stdout; stdout itself now is stderr."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def say(self, value: frames.FromWorker) -> None:
        """Write one frame."""
        self._stream.write(frames.frame(value))
        self._stream.flush()


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _give_memory_back() -> None:
    """Let the kernel have what the task freed: the next one may be an hour away, or another site's here."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Hands:
    """What the agent gives a task, and takes of it."""

    def __init__(self, begin: frames.Begin) -> None:
        self.is_confined = begin.confinement is not None
        self.blobs = BenchBlobs(Path(begin.bench))
        self.memory = CarriedMemory()
        self._noise: bytes | None = None

    def take(self, request: frames.Execute) -> None:
        """Take what comes with a task."""
        self.blobs.begin()
        self.memory.carry(request.state)
        self._noise = request.noise

    def noise(self, task: RoundTask) -> bytes:
        """Return the secret of the noise of the task at hand."""
        if self._noise is None:
            raise TrustError(f"{task.kind!r} came without the secret of its noise", hint="report this: it is a fault")
        return self._noise


def _execute(worker: Worker, hands: _Hands, request: frames.Execute, inbox: _Inbox, outbox: _Outbox) -> None:
    told = 0.0

    def progress(done: float) -> None:
        nonlocal told
        if inbox.unwanted.is_set():
            raise _UnwantedError
        if done >= told + _SMALLEST_MOVE:
            told = done
            failpoint("site.worker.during_work")
            outbox.say(frames.Moved(done=min(1.0, done)))

    hands.take(request)
    try:
        update = worker.execute(request.task, progress)
        outbox.say(frames.Done(update=update, state=hands.memory.new))
    except _UnwantedError:
        outbox.say(frames.Failed())
    except ArchipelError as error:
        traceback.print_exc()
        said = _without_data(error, is_confined=hands.is_confined)
        outbox.say(frames.Failed(failure=failure_of(said)))
    except Exception as error:  # noqa: BLE001 - whatever the work ended in, the agent is told
        traceback.print_exc()
        failed = TaskError(f"{request.task.kind} ended in {type(error).__name__}", hint="the site's log says where")
        outbox.say(frames.Failed(failure=failure_of(failed)))


def _without_data(error: ArchipelError, *, is_confined: bool = False) -> ArchipelError:
    """Return `error` without the text of a foreign exception that caused it, and with the sandbox's part in it."""
    cause = error.__cause__
    if cause is None or isinstance(cause, ArchipelError) or not isinstance(error, TaskError):
        return error
    kind, text = type(cause).__name__, str(cause).strip()
    place, found, _ = error.message.partition(kind)
    if not found:
        place = error.message.partition(text)[0] if text else error.message
    hint = f"{error.hint}; the text of the exception is in the site's log"
    denied = denial_of(cause) if is_confined else ""
    return type(error)(place + found, hint=f"{denied}; {hint}" if denied else hint)


def _begin(stream: IO[bytes]) -> frames.Begin:
    begin = frames.read_frame(stream, "worker")
    if not isinstance(begin, frames.Begin):
        raise SystemExit(f"the first frame is a {type(begin).__name__}")
    return begin


def main() -> None:
    """Serve tasks until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's; it ends its workers
    begin = _begin(sys.stdin.buffer)
    outbox = _Outbox()
    try:
        if begin.confinement is not None:
            confine(begin.confinement)
    except ArchipelError as error:
        outbox.say(frames.Failed(failure=failure_of(error)))
        return
    _end_with(int(sys.argv[1]))
    inbox = _Inbox(sys.stdin.buffer)
    hands = _Hands(begin)
    datasets = {name: Path(path) for name, path in begin.datasets.items()}
    worker = Worker(begin.site, datasets, hands.blobs, hands.memory, hands.noise)
    turns = Turns.of(os.environ)
    outbox.say(frames.Ready())
    while True:
        request = inbox.next()
        with turns.take(inbox.unwanted.is_set) as mine:
            if mine:
                _execute(worker, hands, request, inbox, outbox)
                _give_memory_back()
            else:
                outbox.say(frames.Failed())


if __name__ == "__main__":
    main()
