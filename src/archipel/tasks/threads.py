"""One thread a worker: the order of additions, and so every last bit, must not depend on how many cores are free."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from archipel.tasks.extras import require_extra


def settle_threads(framework: str = "numpy") -> None:
    """Hold this process to one BLAS thread, and its framework to one thread and deterministic algorithms.

    A worker calls it once, before its first task, and it holds as long as the process lives.

    Raises:
        MissingExtraError: the framework is not installed.
    """
    if framework != "numpy":
        require_extra(framework)
    if framework == "torch":
        from archipel.tasks.torch.threads import settle_torch  # noqa: PLC0415 (frameworks load when they are named)

        settle_torch()
    if framework == "jax":
        from archipel.tasks.xla.backend import settle_xla  # noqa: PLC0415

        settle_xla()
    threadpool_limits(limits=1)
