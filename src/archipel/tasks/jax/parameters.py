"""FlatParameters: a task's pytree as named arrays, and as one flat vector of those that are trained.

    names     the path to a leaf, as "layers.0.weight"
    vector    the trained leaves, in the order in which JAX flattens the tree (dicts by key)

What the task does not train stays outside: every site draws it from the job's seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from archipel.spec import Manifest, ShapeError, manifest_of
from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.jax.task import JaxTask, Key, Parameters
from archipel.tasks.port import Sums, Vector
from archipel.tasks.randomness import seeded_draws
from archipel.tasks.rates import multipliers_of
from archipel.tasks.xla.layout import Layout

DRAWS = 1
"""Keys come from another stream than the order of examples, which has the same seed."""
ALONE = "weights"
"""Name of the leaf where the tree is a single array."""


class FlatParameters:
    """A task's first parameters, made from a seed; to be used where JAX computes in the task's precision."""

    def __init__(self, task: JaxTask, statistics: Sums, seed: int) -> None:
        with user_code("init", task_folder(task)), seeded_draws(seed):
            tree = task.init(key_of(seed), dict(statistics))
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(tree)
        self._names = [jax.tree_util.keystr(path, simple=True, separator=".") or ALONE for path, _ in leaves]
        self._require_names()
        with user_code("trainable", task_folder(task)):
            trained = {name for name in self._names if task.trainable(name)}
        self._frozen: dict[str, Any] = {}
        self.first: dict[str, jax.Array] = {}
        """Name → array, of those that are trained."""
        for name, (_, leaf) in zip(self._names, leaves, strict=True):
            array = _array(name, leaf)
            if name not in trained:
                self._frozen[name] = array
            elif not jnp.issubdtype(array.dtype, jnp.floating):
                raise ShapeError(
                    f"parameter {name!r} is {array.dtype}", hint="use floating-point parameters, or say trainable() no"
                )
            else:
                self.first[name] = array.astype(task.dtype)
        with user_code("parameter_groups", task_folder(task)):
            self.groups = {prefix: float(factor) for prefix, factor in task.parameter_groups().items()}
        shapes = {name: tuple(array.shape) for name, array in self.first.items()}
        self.layout = Layout(shapes, multipliers_of(shapes, self.groups))
        dtype = np.dtype(task.dtype)
        self.manifest: Manifest = manifest_of((name, shape, dtype) for name, shape in shapes.items())

    def named(self, trained: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of them by name: these, and those that are not trained."""
        return {name: trained[name] if name in trained else self._frozen[name] for name in self._names}

    def tree(self, trained: Mapping[str, Any]) -> Parameters:
        """Return the task's pytree with these arrays in their places."""
        leaves = list(self.named(trained).values())
        return jax.tree_util.tree_unflatten(self._structure, leaves)

    def vector(self, trained: Mapping[str, Any] | None = None) -> Vector:
        """Return trained parameters end to end; None: the first ones."""
        arrays = self.first if trained is None else trained
        parts = [np.asarray(arrays[name]).reshape(-1) for name in self.layout.shapes]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _require_names(self) -> None:
        repeated = {name for name in self._names if self._names.count(name) > 1}
        if repeated:
            raise ShapeError(
                f"two parameters are named {min(repeated)!r}", hint="use no dots in the keys of what init() returns"
            )


def key_of(seed: int | Sequence[int]) -> Key:
    """Return a random key of JAX for a seed of any length."""
    return as_key(step_keys(seed, 1)[0])


def step_keys(seed: int | Sequence[int], steps: int) -> npt.NDArray[np.uint32]:
    """Return the raw keys (steps, 2) of a number of steps; what a program does not draw from costs it nothing."""
    words = np.random.SeedSequence(seed, spawn_key=(DRAWS,)).generate_state(2 * steps, np.uint32)
    return words.astype(np.uint32).reshape(steps, 2)


def as_key(raw: Any) -> Key:
    """Return a raw key as JAX's random functions take it."""
    key: Key = jax.random.wrap_key_data(raw, impl="threefry2x32")
    return key


def _array(name: str, leaf: Any) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"init() returns {name!r} as {type(leaf).__name__}", hint="return a nest of dicts, lists and arrays"
        ) from error
