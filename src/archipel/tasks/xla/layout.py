"""How a flat vector of weights is cut into the arrays a program works on.

Example:
    layout = Layout({"weight": (2, 3), "bias": (3,)})
    tree = layout.tree(vector)          # {"weight": (2, 3), "bias": (3,)}
    layout.vector(tree)                 # the vector again
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

Tree = dict[str, Any]
"""Parameter name → array."""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of what is in the vector, in order."""

    shapes: Mapping[str, tuple[int, ...]]
    multipliers: Mapping[str, float] = field(default_factory=dict)
    """Of the learning rate, by name; 1 where a name is missing."""
    swapped: frozenset[str] = frozenset()
    """Matrices that the program wants transposed."""

    @property
    def elements(self) -> int:
        """Length of the vector."""
        return sum(_size(shape) for shape in self.shapes.values())

    def tree(self, vector: Any) -> Tree:
        """Cut a vector (elements,) into parameters."""
        found: Tree = {}
        place = 0
        for name, shape in self.shapes.items():
            end = place + _size(shape)
            value = vector[place:end].reshape(shape)
            found[name] = value.T if name in self.swapped else value
            place = end
        return found

    def vector(self, tree: Tree) -> Any:
        """Lay parameters end to end, within a program."""
        return jnp.concatenate([part.reshape(-1) for part in self._parts(tree)])

    def flat(self, tree: Tree) -> Any:
        """Lay parameters end to end, on the host: XLA transposes a matrix of a megabyte five times slower."""
        return np.concatenate([np.asarray(part).reshape(-1) for part in self._parts(tree)])

    def _parts(self, tree: Tree) -> Iterator[Any]:
        return (tree[name].T if name in self.swapped else tree[name] for name in self.shapes)

    def rates(self, rate: Any) -> Tree:
        """Return parameter name → learning rate."""
        return {name: rate * self.multipliers.get(name, 1.0) for name in self.shapes}


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
