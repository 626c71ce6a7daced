"""Small programs that every device computes: what adapters are measured by and held to.

    product     C = A B, matrices of n rows and columns         2 n^3 FLOP: the device's rate
    axpy        y = 3 x + y over n numbers                      3 n numbers moved: its memory's bandwidth
    network     relu(X A + a) B + b, n rows of 64 features      a model's forward pass, 128 hidden, 10 classes

Example:
    >>> kernel = Kernel("product", "float32", 2)
    >>> kernel.flop, sorted(kernel.inputs(seed=0))
    (16, ['a', 'b'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archipel.spec import ShapeError, StateError
from archipel.spec.device import SAID, Device, DType, Label

Array = npt.NDArray[Any]
What = Literal["product", "axpy", "network"]
WHATS: tuple[What, ...] = ("product", "axpy", "network")
FEATURES, HIDDEN, CLASSES = 64, 128, 10
FACTOR = 3.0
BYTES: dict[DType, int] = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
PRECISION: dict[DType, float] = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Distance of 1 to the next number."""


@dataclass(frozen=True)
class Kernel:
    """One of the programs, with the type of its numbers and its size."""

    what: What
    dtype: DType
    size: int
    """n above."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input → shape."""
        n = self.size
        match self.what:
            case "product":
                return {"a": (n, n), "b": (n, n)}
            case "axpy":
                return {"x": (n,), "y": (n,)}
            case "network":
                layers = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
                return {"x": (n, FEATURES), **layers}

    @property
    def flop(self) -> int:
        """Floating-point operations of one run."""
        n = self.size
        return {"product": 2 * n**3, "axpy": 2 * n, "network": 2 * n * HIDDEN * (FEATURES + CLASSES)}[self.what]

    @property
    def moved_bytes(self) -> int:
        """Bytes that one run reads and writes at the least."""
        inputs = sum(int(np.prod(shape)) for shape in self.shapes.values())
        result = {"product": self.size**2, "axpy": self.size, "network": self.size * CLASSES}[self.what]
        return (inputs + result) * BYTES[self.dtype]

    @property
    def border(self) -> np.dtype[Any]:
        """What inputs and result are outside of the device."""
        return np.dtype(np.float64 if self.dtype == "float64" else np.float32)

    def inputs(self, seed: int) -> dict[str, Array]:
        """Draw inputs of unit variance over the square root of how many are added."""
        rng = np.random.default_rng(seed)
        return {
            name: (rng.standard_normal(shape) / np.sqrt(shape[0] if len(shape) == 2 else 1)).astype(self.border)
            for name, shape in self.shapes.items()
        }

    def reference(self, inputs: Mapping[str, Array]) -> Array:
        """Return the answer in float64, by numpy."""
        return np.asarray(compute(self.what, {name: value.astype(np.float64) for name, value in inputs.items()}))

    def tolerance(self) -> float:
        """Return how far an answer may be from the reference, relative to the reference's largest number.

        Rounding errors of a sum grow with the square root of its length where they are independent; four times that.
        """
        added = {"product": self.size, "axpy": 2, "network": FEATURES + HIDDEN}[self.what]
        return float(4 * PRECISION[self.dtype] * np.sqrt(added))

    def require(self, inputs: Mapping[str, Array]) -> None:
        """Refuse other inputs than the kernel's.

        Raises:
            ShapeError: one is missing, unknown or of another shape.
        """
        given = {name: tuple(value.shape) for name, value in inputs.items()}
        if given != self.shapes:
            raise ShapeError(f"{self.what} takes {self.shapes}, not {given}", hint="make inputs by Kernel.inputs")


def compute(what: What, given: Mapping[str, Any]) -> Any:
    """Compute a kernel on whatever has numpy's operators: arrays of numpy and JAX, tensors of PyTorch."""
    match what:
        case "product":
            return given["a"] @ given["b"]
        case "axpy":
            return FACTOR * given["x"] + given["y"]
        case "network":
            hidden = given["x"] @ given["w1"] + given["b1"]
            return hidden * (hidden > 0) @ given["w2"] + given["b2"]


RUNS: tuple[Label, ...] = ("executed", "emulated")
"""Labels of devices that answer."""


def require_runs(device: Device) -> None:
    """Refuse to run on a device that is not here.

    Raises:
        StateError: it is compiled for, or selected.
    """
    if device.label not in RUNS:
        hint = "run it where the device is; here only its compiler is"
        raise StateError(f"{device.name} is {SAID[device.label]}, not executed here", hint=hint)
