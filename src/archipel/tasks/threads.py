"""One thread a worker: the order of additions, and so every last bit, must not depend on how many cores are free."""

from __future__ import annotations

import importlib.util

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from archipel.spec import MissingExtraError


def settle_threads(framework: str = "numpy") -> None:
    """Hold this process to one BLAS thread and, for "torch", one torch thread and deterministic algorithms.

    A worker calls it once, before its first task, and it holds as long as the process lives.

    Raises:
        MissingExtraError: the framework is not installed.
    """
    if framework == "torch":
        require_torch()
        from archipel.tasks.torch.threads import settle_torch  # noqa: PLC0415 (frameworks load when they are named)

        settle_torch()
    threadpool_limits(limits=1)


def require_torch() -> None:
    """Say by name that PyTorch is missing.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        hint = "pip install -e '.[torch]' in the checkout"
        raise MissingExtraError("this job needs PyTorch, which is not installed", hint=hint)
