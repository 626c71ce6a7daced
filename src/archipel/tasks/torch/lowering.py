"""A task's loss as a JAX function: torch.export's core ATen graph, each operation given by its jax.numpy counterpart.

    loss = lower_loss(task, module, example)        # example: a batch of one row
    loss({"0.weight": …, "0.bias": …}, {"x": …, "y": …})
    loss.swapped                                    # {"0.weight"}: wanted as (inputs, outputs), not as torch has it

A matrix that the graph only ever transposes (nn.Linear's) is wanted transposed where its width fits: on CPUs XLA's
product is a third faster.

What running statistics, operations without a counterpart or, unless it is asked for, random numbers are needed for is
refused by name, and the executors that need no lowering remain. Frozen parameters and buffers are constants of the
function.

Operations and their arguments: https://pytorch.org/docs/stable/torch.compiler_ir.html (core ATen IR).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from archipel.tasks.guard import task_folder, user_code
from archipel.tasks.torch.operations import OPERATIONS
from archipel.tasks.torch.task import Batch, TorchTask
from archipel.tasks.xla.compiled import cannot_compile

INNER = "inner."
SWAP = [1, 0]
_DROPOUT = "native_dropout"
LANES = 16
"""float32 numbers in a vector register of AVX-512; narrower or odd matrices are faster as torch has them."""


DRAW = "archipel.draw"
"""Sample name of a row's own random number, (1,) uint32, where a loss that draws is lowered with `draws`."""


def lower_loss(
    task: TorchTask, module: nn.Module, example: Mapping[str, Tensor], *, draws: bool = False
) -> LoweredLoss:
    """Lower the loss of a batch of one row; `draws` lets it have dropout, from a number that comes with each row.

    Raises:
        TaskError: it cannot be exported, or has an operation without a counterpart; names it.
    """
    with user_code("loss", task_folder(task)):
        program = _export(_Loss(task, module), example)
    return LoweredLoss(program, tuple(example), draws=draws)


class _Loss(nn.Module):
    """The task's loss as a module whose submodule `inner` is the model."""

    def __init__(self, task: TorchTask, module: nn.Module) -> None:
        super().__init__()
        self._task = task
        self.inner = module

    def forward(self, batch: Batch) -> Tensor:
        return self._task.loss(self.inner, batch)


def _export(loss: nn.Module, example: Mapping[str, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        try:
            return torch.export.export(loss, (dict(example),), strict=False).run_decompositions()
        except Exception as error:  # whatever its tracing meets, in many classes of its own
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise cannot_compile(said[0]) from error


class LoweredLoss:
    """Carries out an exported graph in jax.numpy."""

    def __init__(self, program: Any, features: tuple[str, ...], *, draws: bool) -> None:
        self._nodes = list(program.graph.nodes)
        signature = program.graph_signature
        self._parameters = {
            place: target.removeprefix(INNER) for place, target in signature.inputs_to_parameters.items()
        }
        self._constants: dict[str, Any] = {}
        held = {**dict(program.named_buffers()), **program.constants, **dict(program.named_parameters())}
        for place, target in {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}.items():
            self._constants[place] = _array(held[target])
        self._frozen = {name: _array(value) for name, value in program.named_parameters()}
        self._features = dict(zip(signature.user_inputs, features, strict=True))
        self._unmoved = {node.name for node in self._nodes if self._swaps(node)}
        self.swapped = frozenset(
            self._parameters[node.name]
            for node in self._nodes
            if node.name in self._parameters
            and all(user.name in self._unmoved for user in node.users)
            and node.meta["val"].ndim == len(SWAP)
            and node.meta["val"].shape[0] % LANES == 0
        )
        if signature.buffers_to_mutate:
            raise cannot_compile("running statistics change in training")
        called = [node for node in self._nodes if node.op == "call_function" and node.target is not operator.getitem]
        self.draws = draws and any(_name(node) == _DROPOUT for node in called)
        """Does it want DRAW in a batch?"""
        for node in called:
            if _name(node) not in OPERATIONS and not (self.draws and _name(node) == _DROPOUT):
                raise cannot_compile(f"no counterpart of {node.target}")

    def _swaps(self, node: Any) -> bool:
        """Does the node transpose a parameter?"""
        return (
            node.op == "call_function"
            and _name(node) == "permute"
            and list(node.args[1]) == SWAP
            and node.args[0].name in self._parameters
        )

    def __call__(self, parameters: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
        """Return the loss of a batch of one row."""
        values: dict[str, Any] = {}

        def read(argument: Any) -> Any:
            if isinstance(argument, torch.fx.Node):
                return values[argument.name]
            if isinstance(argument, (list, tuple)):
                return [read(item) for item in argument]
            return argument

        for node in self._nodes:
            if node.op == "placeholder":
                values[node.name] = self._given(node.name, parameters, batch)
            elif node.name in self._unmoved and self._parameters[node.args[0].name] in self.swapped:
                values[node.name] = read(node.args[0])
            elif node.op == "call_function":
                found = self._counterpart(node, batch, len(values))
                options = {name: read(value) for name, value in node.kwargs.items() if value is not None}
                try:
                    values[node.name] = found(*(read(argument) for argument in node.args), **options)
                except Exception as error:  # a dtype, a layout or an option that the counterpart does not know
                    raise cannot_compile(f"{node.target}: {error}") from error
            elif node.op == "output":
                return read(node.args[0])[0]
        raise cannot_compile("its graph has no output")

    def _counterpart(self, node: Any, batch: Mapping[str, Any], number: int) -> Any:
        """Return what computes the node, the `number`-th of the graph."""
        if node.target is operator.getitem:
            return operator.getitem
        if _name(node) == _DROPOUT:
            return partial(_dropped, batch[DRAW][0], number)
        return OPERATIONS[_name(node)]

    def _given(self, place: str, parameters: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
        if place in self._features:
            return batch[self._features[place]]
        if place in self._parameters:
            name = self._parameters[place]
            if name in parameters:
                return parameters[name]
            return self._frozen[INNER + name].T if name in self.swapped else self._frozen[INNER + name]
        return self._constants[place]


def _dropped(draw: Any, place: int, x: Any, share: float, train: bool | None = None) -> tuple[Any, Any]:  # noqa: FBT001
    """Drop a share of the numbers, as torch.native_dropout: (what is left over 1 - share, what was kept)."""
    if train is False:
        return x, jnp.ones(x.shape, bool)
    kept = jax.random.bernoulli(jax.random.fold_in(jax.random.key(draw), place), 1 - share, x.shape)
    return jnp.where(kept, x / (1 - share), 0), kept


def _name(node: Any) -> str:
    """Return the operation's name: "addmm" of aten.addmm.default."""
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else str(node.target)


def _array(value: Tensor) -> Any:
    return jnp.asarray(np.array(value.detach().cpu().numpy()))
