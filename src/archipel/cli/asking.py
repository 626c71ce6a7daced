"""Asking the model a site serves, in the Open Inference Protocol v2 (REST), on the site's loopback.

    answer = ask("http://127.0.0.1:7500", "islands", {"features": [[39.1, 18.7, 181, 3750]]})

Names, types and shapes come from the endpoint's own metadata, so a question is written as plain values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from archipel.spec import LinkError, SpecError, UnknownNameError

Question = Mapping[str, Sequence[Any]]
Answer = dict[str, Any]
"""The endpoint's answer as the protocol gives it: {"model_name": …, "outputs": [{"name", "datatype", "data"}]}."""
_TIMEOUT_SECONDS = 60.0


def ask(url: str, model: str, question: Question) -> Answer:
    """Ask the endpoint at `url` about `model` and return its answer.

    Raises:
        LinkError: nobody answers there.
        SpecError: the question does not fit the model.
    """
    with httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
        found = _call(http, "GET", f"/v2/models/{model}", None)
        body = {"inputs": [_tensor(item, question) for item in _inputs(found, question, model)]}
        return _call(http, "POST", f"/v2/models/{model}/infer", body)


def _inputs(found: Mapping[str, Any], question: Question, model: str) -> list[Mapping[str, Any]]:
    inputs: list[Mapping[str, Any]] = found.get("inputs", [])
    names = [item["name"] for item in inputs]
    for name in question:
        if name not in names:
            raise UnknownNameError.of(f"input of {model}:", name, names)
    missing = [name for name in names if name not in question]
    if missing:
        raise SpecError(f"{model} also needs {', '.join(missing)}", hint=f"give all of: {', '.join(names)}")
    return inputs


def _tensor(item: Mapping[str, Any], question: Question) -> dict[str, Any]:
    name, datatype = item["name"], item["datatype"]
    rows = question[name]
    shape, data = _shape_of(rows), _flat(rows)
    if not all(math.isfinite(value) for value in data if isinstance(value, float)):
        raise SpecError(f"{name} of the question holds NaN or infinity", hint="give finite numbers")
    wanted = list(item.get("shape", shape))
    if len(wanted) == 2 and len(shape) == 1 and wanted[1] in {1, -1}:
        shape = [*shape, 1]
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _shape_of(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list | tuple):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _call(http: httpx.Client, method: str, path: str, body: Any) -> dict[str, Any]:
    try:
        answer = http.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise LinkError(
            f"no endpoint answers at {http.base_url}: {error or type(error).__name__}",
            hint="an endpoint answers on its site's own machine only; `archipel status` shows which sites serve",
        ) from error
    try:
        found: dict[str, Any] = answer.json()
    except ValueError as error:
        raise LinkError(f"the endpoint at {http.base_url} answered {answer.status_code}, not JSON", hint="") from error
    if answer.is_success:
        return found
    message = found.get("error") or found.get("message") or f"status {answer.status_code}"
    hint = str(found.get("hint") or "`archipel status` shows what each site serves")
    raise SpecError(f"the endpoint refuses the question: {message}", hint=hint)


def in_words(answer: Mapping[str, Any]) -> str:
    """Return an answer on one line, of the first row: labels and names of classes first, then numbers."""
    parts = []
    outputs = sorted(answer.get("outputs", []), key=lambda item: item["datatype"] != "BYTES")
    for item in outputs:
        rows = max(item["shape"][0], 1) if item.get("shape") else 1
        names = item.get("parameters", {})
        if "class" in names:
            parts.append(", ".join(_first(names["class"], rows)))
        values = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in _first(item["data"], rows)]
        known = names.get("classes", ())
        if item["datatype"].startswith("FP") and len(known) == len(values):  # one score a class, not one class a word
            values = [f"{name} {value}" for name, value in zip(known, values, strict=True)]
        parts.append(f"{item['name']} {', '.join(values)}")
    return "; ".join(parts)


def _first(data: Any, rows: int) -> list[Any]:
    flat = _flat(data)
    return flat[: max(len(flat) // rows, 1)]
