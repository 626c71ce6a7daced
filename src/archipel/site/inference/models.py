"""Models that answer: ONNX files opened with onnxruntime, one current version a name, switched in one step.

A model is opened and tried (its inputs read) before it takes over; requests under way finish with the one they began
with. One thread a request, so that a site's other work keeps its cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import onnxruntime

from archipel.site.inference.tensors import DATATYPE_OF, NUMPY_OF, Array
from archipel.spec import ServedModel, SpecError, TaskError, UnknownNameError
from archipel.tasks.class_names import CLASS_NAMES

_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a model; -1 in the shape: any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Model:
    """One opened ONNX file."""

    def __init__(self, served: ServedModel, onnx: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, ["CPUExecutionProvider"])
            said = self._session.get_modelmeta().custom_metadata_map.get(CLASS_NAMES, "[]")
            self.classes = msgspec.json.decode(said, type=tuple[str, ...])
        except Exception as error:  # onnxruntime's errors share no base but Exception
            message = f"model {served.name!r} version {served.version} cannot be served: {_first_line(error)}"
            raise TaskError(message, hint="export it again: run the job again, or serve another version") from error
        self.served = served
        self.inputs = tuple(_slot(item) for item in self._session.get_inputs())
        self.outputs = tuple(_slot(item) for item in self._session.get_outputs())

    def answer(self, arrays: Mapping[str, Array], wanted: tuple[str, ...]) -> dict[str, Array]:
        """Return the wanted outputs (all, if none is named) for the inputs.

        Raises:
            SpecError: inputs that do not fit the model, or an output it does not have.
        """
        self._check(arrays, wanted)
        names = list(wanted) or [slot.name for slot in self.outputs]
        try:
            results = self._session.run(names, dict(arrays))
        except Exception as error:  # as above
            raise SpecError(f"the model refuses these inputs: {_first_line(error)}") from error
        return dict(zip(names, results, strict=True))

    def names(self, output: str, array: Array) -> list[str]:
        """Return the class each row of an output is given; [] where the model names no classes, or it tells none.

        The model's first output tells: class numbers, or one score a class along the last axis, the highest of which
        counts.
        """
        if not self.classes or output != self.outputs[0].name:
            return []
        if array.dtype.kind == "f" and array.ndim > 1 and array.shape[-1] == len(self.classes):
            array = array.argmax(axis=-1)
        if array.dtype.kind not in "iu" or not all(0 <= number < len(self.classes) for number in array.flat):
            return []
        return [self.classes[number] for number in array.flat]

    def _check(self, arrays: Mapping[str, Array], wanted: tuple[str, ...]) -> None:
        slots = {slot.name: slot for slot in self.inputs}
        for name in arrays:
            if name not in slots:
                raise _unknown("input", name, slots)
        for name, slot in slots.items():
            if name not in arrays:
                raise SpecError(f"input {name!r} is missing")
            array = arrays[name]
            if NUMPY_OF[slot.datatype] != array.dtype:
                raise SpecError(f"input {name!r} is {DATATYPE_OF[array.dtype]}, the model takes {slot.datatype}")
            fits = len(array.shape) == len(slot.shape)
            if not fits or any(want not in (-1, have) for want, have in zip(slot.shape, array.shape, strict=True)):
                raise SpecError(f"input {name!r} has shape {list(array.shape)}, the model takes {list(slot.shape)}")
        known = {slot.name for slot in self.outputs}
        for name in wanted:
            if name not in known:
                raise _unknown("output", name, known)


class Models:
    """The current model of each name."""

    def __init__(self) -> None:
        self._current: dict[str, Model] = {}

    def switch(self, model: Model) -> None:
        """Let `model` answer from now on."""
        self._current = {**self._current, model.served.name: model}

    def served(self) -> tuple[ServedModel, ...]:
        """What answers, by name."""
        return tuple(model.served for _, model in sorted(self._current.items()))

    def find(self, name: str, version: str | None = None) -> Model:
        """Return the model of a name; an UnknownNameError if there is none, or it has another version."""
        model = self._current.get(name)
        if model is None:
            raise UnknownNameError.of("model", name, self._current)
        if version is not None and version != str(model.served.version):
            raise UnknownNameError.of(f"version of {name!r}:", version, [str(model.served.version)])
        return model


def _slot(item: Any) -> Slot:
    shape = tuple(side if isinstance(side, int) else -1 for side in item.shape)
    return Slot(name=item.name, datatype=_TYPES[item.type], shape=shape)


def _unknown(what: str, name: str, known: Iterable[str]) -> SpecError:
    """Say which name was meant; unlike an unknown model this is a fault of the request, not a missing page."""
    error = UnknownNameError.of(what, name, known)
    return SpecError(error.message, hint=error.hint)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
