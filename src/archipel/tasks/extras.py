"""Optional parts of an installation: said by name before anything of theirs is imported."""

from __future__ import annotations

import importlib.util

from archipel.spec import MissingExtraError

_MODULES = {
    "torch": ("PyTorch", "torch"),
    "jax": ("JAX", "jax"),
    "nvidia": ("nvidia-ml-py", "pynvml"),
    "tpu": ("libtpu", "libtpu"),
    "opencl": ("PyOpenCL", "pyopencl"),
    "openvino": ("OpenVINO", "openvino"),
}
"""Extra → what people call it, and the module that is there with it."""


def require_extra(extra: str, what: str = "this job") -> None:
    """Say by name that what `extra` ("torch", "jax", …) installs is missing; `what` needs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    called, module = _MODULES[extra]
    if importlib.util.find_spec(module) is None:
        hint = f"pip install -e '.[{extra}]' in the checkout"
        raise MissingExtraError(f"{what} needs {called}, which is not installed", hint=hint)
