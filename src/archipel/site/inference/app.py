"""The REST routes of the Open Inference Protocol v2, over the current models.

    GET  /v2                                     who answers
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME[/versions/V]            inputs and outputs
    GET  /v2/models/NAME[/versions/V]/ready
    POST /v2/models/NAME[/versions/V]/infer      JSON tensors in, JSON tensors out

An output that tells classes says their names too, where the model knows them, in its `parameters`: `classes` in the
order of the scores, `class` for each row (or each place of a row's sequence, row after row).

Every error is {"error": "…"}: 400 for a request that does not fit, 404 for what is not served here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException

import archipel
from archipel.site.inference.models import Model, Models
from archipel.site.inference.tensors import Array, Tensor, from_array, to_array
from archipel.spec import ArchipelError, SpecError, UnknownNameError

LIMIT_BYTES = 64 * 1024 * 1024
_NOT_FOUND, _BAD_REQUEST, _FAILED = 404, 400, 500


class WantedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of an infer request."""

    inputs: tuple[Tensor, ...]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: tuple[WantedOutput, ...] = ()


Answer = Response[dict[str, Any]]
Asked = Request[Any, Any, State]


@get("/v2", sync_to_thread=False)
def about() -> dict[str, Any]:
    """Say who answers."""
    return {"name": "archipel", "version": archipel.__version__, "extensions": []}


@get("/v2/health/live", sync_to_thread=False)
def live() -> dict[str, bool]:
    """Say that the server lives."""
    return {"live": True}


@get("/v2/health/ready", sync_to_thread=False)
def ready(state: State) -> Answer:
    """Say whether there is a model that answers."""
    is_ready = bool(state.models.served())
    return Response({"ready": is_ready}, status_code=200 if is_ready else _BAD_REQUEST)


@get(["/v2/models/{name:str}", "/v2/models/{name:str}/versions/{version:str}"], sync_to_thread=False)
def describe(request: Asked) -> dict[str, Any]:
    """Describe a model's inputs and outputs."""
    model = _model(request)
    return {
        "name": model.served.name,
        "versions": [str(model.served.version)],
        "platform": "onnx_onnxv1",
        "inputs": msgspec.to_builtins(model.inputs),
        "outputs": msgspec.to_builtins(model.outputs),
    }


@get(["/v2/models/{name:str}/ready", "/v2/models/{name:str}/versions/{version:str}/ready"], sync_to_thread=False)
def model_ready(request: Asked) -> dict[str, Any]:
    """Say that a model answers (404 if it does not)."""
    return {"name": _model(request).served.name, "ready": True}


@post(
    ["/v2/models/{name:str}/infer", "/v2/models/{name:str}/versions/{version:str}/infer"],
    status_code=200,
    request_max_body_size=LIMIT_BYTES,
)
async def infer(request: Asked) -> dict[str, Any]:
    """Answer a question."""
    model = _model(request)
    if "inference-header-content-length" in request.headers:
        raise SpecError("binary tensors are not taken here: send them as JSON (binary_data=False)")
    question = _question(await request.body())
    arrays = {tensor.name: to_array(tensor) for tensor in question.inputs}
    if len(arrays) != len(question.inputs):
        raise SpecError("an input is given twice")
    wanted = tuple(output.name for output in question.outputs)
    results = await asyncio.to_thread(model.answer, arrays, wanted)
    answer: dict[str, Any] = {"model_name": model.served.name, "model_version": str(model.served.version)}
    if question.id:
        answer["id"] = question.id
    answer["parameters"] = {"copy": model.served.copy, "digest": model.served.digest}
    answer["outputs"] = [_said(model, output, array) for output, array in results.items()]
    return answer


def make_app(models: Models) -> Litestar:
    """Return the ASGI application that answers with `models`."""
    return Litestar(
        [about, live, ready, describe, model_ready, infer],
        state=State({"models": models}),
        exception_handlers={ArchipelError: _refuse, HTTPException: _refuse_request, Exception: _fail},
        openapi_config=None,
        logging_config=None,
    )


def _model(request: Asked) -> Model:
    """Return the model a path names."""
    models: Models = request.app.state.models
    return models.find(request.path_params["name"], request.path_params.get("version"))


def _said(model: Model, output: str, array: Array) -> dict[str, Any]:
    """Return one output as the protocol gives it, with the model's class names and each row's own where it has them."""
    tensor = msgspec.to_builtins(from_array(output, array))
    del tensor["parameters"]
    if chosen := model.names(output, array):
        tensor["parameters"] = {"classes": model.classes, "class": chosen}
    return dict(tensor)


def _question(body: bytes) -> Question:
    try:
        return msgspec.json.decode(body, type=Question)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise SpecError(f"not an inference request: {error}") from error


def _refuse(_: Asked, error: ArchipelError) -> Answer:
    status = _NOT_FOUND if isinstance(error, UnknownNameError) else _BAD_REQUEST
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    return Response({"error": text}, status_code=status)


def _refuse_request(_: Asked, error: HTTPException) -> Answer:
    return Response({"error": error.detail}, status_code=error.status_code)


def _fail(_: Asked, error: Exception) -> Answer:
    return Response({"error": f"the server failed: {type(error).__name__}"}, status_code=_FAILED)
