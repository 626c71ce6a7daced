"""Run a user's code so that what it raises becomes a TaskError that names the user's file and line.

    with user_code("read", folder):
        split = task.read(data, statistics)
    # TaskError: task.py:12, in read: ValueError: could not convert …

Errors of the tree pass as they are: they already say what to do. So does KeyboardInterrupt, which is the operator's.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from archipel.spec import ArchipelError, TaskError


class UserCode:
    """The block of `user_code`; entered for each step, so it costs next to nothing."""

    __slots__ = ("_doing", "_folder")

    def __init__(self, doing: str, folder: Path) -> None:
        self._doing = doing
        self._folder = folder

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise a TaskError in the place of what the user's code raised."""
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, ArchipelError):
            raise task_error(error, self._doing, self._folder) from error


def user_code(doing: str, folder: Path) -> UserCode:
    """Turn what the block raises into a TaskError; `folder` holds the user's files, `doing` is the method's name."""
    return UserCode(doing, folder)


def task_folder(task: object) -> Path:
    """Return the folder of the user's files, for naming places in errors."""
    module = sys.modules.get(type(task).__module__)
    root = getattr(module, "__archipel_folder__", None)
    if root is not None:
        return Path(root)
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else Path("/nowhere")


def task_error(error: BaseException, doing: str, folder: Path) -> TaskError:
    """Build the TaskError for `error`, raised while the task was `doing` something."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename and _inside(Path(error.filename), folder):
        where = f"{Path(error.filename).name}:{error.lineno}"
        return TaskError(f"{where}: {kind}: {error.msg}", hint="mend that line of the task and run again")
    place = _locate(error, folder)
    where = f"{place}, in {doing}" if place else f"in {doing}"
    hint = (
        "mend that line of the task and run again"
        if place
        else f"the task's {doing} cannot do with this model and data"
    )
    return TaskError(f"{where}: {kind}: {error}".rstrip(": "), hint=hint)


def _locate(error: BaseException, folder: Path) -> str:
    """Return 'file.py:LINE' of the innermost frame in the user's files, or '' where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if _inside(file, folder):
            return f"{file.relative_to(folder).as_posix()}:{frame.lineno}"
    return ""


def _inside(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder)
