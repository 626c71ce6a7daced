"""From a bundle's folder to a task, and from a task to the adapter of its framework.

    task = load_task(folder, job.task.code, job.task.options)
    sums = gather_statistics(task, data)                      # this site's share; {} where the task asks for none
    adapter = open_adapter(job, task, data, statistics)

The folder is imported as a package with a name of its own, so that two bundles in one process never see each other's
modules; files reach their siblings as `from .conll import read` or `from conll import read` (at the top of a file).
A framework is imported here only when a job names it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from archipel.data.site_data import SiteData
from archipel.spec import JobSpec, ShapeError, TaskError, UnknownNameError, require_finite
from archipel.tasks.extras import require_extra
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.port import Adapter, Sums, Task
from archipel.tasks.randomness import READING, seeded_draws


def load_task(folder: Path, entry: str, options: Mapping[str, Any]) -> Task:
    """Import `entry` ("task.py:Class") from the bundle unpacked in `folder` and construct the task with `options`.

    Raises:
        TaskError: the file, class or option does not exist, or the user's code raises; names file and line.
    """
    file, _, name = entry.partition(":")
    made = load_object(folder, file, name)
    if not isinstance(made, type):
        raise TaskError(f"{file}: {name} is not a class", hint="name the task's class in `code` of [task]")
    with user_code(f"{name}(options)", folder.resolve()):
        task: Any = made(**options)
    for method in ("statistics", "read"):
        if not callable(getattr(task, method, None)):
            raise TaskError(
                f"{file}: {name} has no method {method!r}",
                hint="derive it from NumpyTask, TorchTask or JaxTask, or add it",
            )
    return task  # type: ignore[no-any-return]


def load_object(folder: Path, file: str, name: str) -> Any:
    """Return the object called `name` in `file` of the unpacked bundle (a task class, or a `prepare` function)."""
    folder = folder.resolve()
    source = folder / file
    if not source.is_relative_to(folder) or not source.is_file():
        raise TaskError(f"the bundle has no file {file!r}", hint="check `code` and `include` in [task]")
    with user_code("import", folder), _siblings(folder):
        module = _import_file(folder, source)
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise TaskError(f"{file} has no {name!r}", hint=UnknownNameError.of("name", name, known).hint)
    return getattr(module, name)


def gather_statistics(task: Task, data: SiteData) -> Sums:
    """Return the task's sums over this site's rows, as float64 arrays that can be added over sites."""
    with user_code("statistics", task_folder(task)), seeded_draws(READING):
        raw: Any = task.statistics(data)
    if not isinstance(raw, Mapping):
        raise ShapeError("statistics() must return a mapping of name to array", hint="return {} to ask for none")
    sums: Sums = {}
    for name, value in raw.items():
        with user_code(f"statistics ({name})", task_folder(task)):
            sums[str(name)] = np.array(value, dtype=np.float64)
        require_finite(f"statistic {name!r}", sums[str(name)])
    return sums


def open_adapter(job: JobSpec, task: Task, data: SiteData, statistics: Sums) -> Adapter:
    """Return the adapter of the job's framework for `task` at one site."""
    if job.task.framework == "numpy":
        from archipel.tasks.numpy.adapter import NumpyAdapter  # noqa: PLC0415 (frameworks load when they are named)

        return NumpyAdapter(job, task, data, statistics)
    require_extra(job.task.framework)
    if job.task.framework == "jax":
        from archipel.tasks.jax.adapter import JaxAdapter  # noqa: PLC0415

        return JaxAdapter(job, task, data, statistics)
    from archipel.tasks.torch.adapter import TorchAdapter  # noqa: PLC0415

    return TorchAdapter(job, task, data, statistics)


def _import_file(folder: Path, source: Path) -> ModuleType:
    package = "archipel_bundle_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if package not in sys.modules:
        parent = ModuleType(package)
        parent.__path__ = [str(folder)]
        sys.modules[package] = parent
    name = ".".join((package, *source.relative_to(folder).with_suffix("").parts))
    importlib.invalidate_caches()
    module = importlib.import_module(name)
    module.__dict__["__archipel_folder__"] = str(folder)
    return module


@contextmanager
def _siblings(folder: Path) -> Iterator[None]:
    """Let `import sibling` work inside the block, and forget such modules after it, for other bundles have theirs."""
    before = set(sys.modules)
    bytecode = sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    # A bundle's folder holds what its digest covers and nothing else.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = bytecode
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if not name.startswith("archipel_bundle_") and file and Path(file).is_relative_to(folder):
                del sys.modules[name]
