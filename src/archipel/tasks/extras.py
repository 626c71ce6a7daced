"""Frameworks that an installation may be without: said by name before anything of theirs is imported."""

from __future__ import annotations

import importlib.util

from archipel.spec import MissingExtraError

_CALLED = {"torch": "PyTorch", "jax": "JAX"}


def require_extra(extra: str, what: str = "this job") -> None:
    """Say by name that the framework of `extra` ("torch", "jax") is missing; `what` needs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec(extra) is None:
        hint = f"pip install -e '.[{extra}]' in the checkout"
        raise MissingExtraError(f"{what} needs {_CALLED[extra]}, which is not installed", hint=hint)
