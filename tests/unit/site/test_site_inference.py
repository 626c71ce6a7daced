"""The Open Inference Protocol v2 at a site: a table of questions over real HTTP, and the switch of versions."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, save

from archipel.site.inference.models import Model, Models
from archipel.site.inference.server import InferenceServer
from archipel.site.inference.tensors import NUMPY_OF, Tensor, from_array, to_array
from archipel.spec import ServedModel, SpecError, StateError, TaskError, digest_of
from archipel.tasks.class_names import write_class_names
from archipel.tasks.numpy import NumpyTask

X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
N = {"name": "n", "datatype": "INT64", "shape": [1], "data": [10]}


def write_model(path: Path, factor: float) -> Path:
    """Write ONNX: y = factor * x (any rows, two columns), m = n + n."""
    nodes = [
        helper.make_node("Constant", [], ["f"], value_float=factor),
        helper.make_node("Mul", ["x", "f"], ["y"]),
        helper.make_node("Add", ["n", "n"], ["m"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2]),
        helper.make_tensor_value_info("n", TensorProto.INT64, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2]),
        helper.make_tensor_value_info("m", TensorProto.INT64, [1]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Named(NumpyTask):
    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes


def model(folder: Path, version: int = 1, factor: float = 2.0) -> Model:
    path = write_model(folder / f"{version}.onnx", factor)
    digest = digest_of(path.read_bytes())
    return Model(ServedModel(name="birds", version=version, copy="global", digest=digest), path)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    known = Models()
    known.switch(model(tmp_path))
    return known


@pytest.fixture
async def client(models: Models) -> AsyncIterator[httpx.AsyncClient]:
    server = await InferenceServer.start(models)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as opened:
        yield opened
    await server.stop()


@pytest.mark.parametrize("end", [MemoryError("ended"), None], ids=["by an error", "by itself"])
async def test_a_server_that_ends_at_its_start_is_not_announced(
    models: Models, monkeypatch: pytest.MonkeyPatch, end: Exception | None
) -> None:
    async def serve(*_: object, **__: object) -> None:
        if end is not None:
            raise end

    monkeypatch.setattr("uvicorn.Server.serve", serve)
    with pytest.raises(StateError if end is None else type(end), match="ended"):
        await InferenceServer.start(models)


async def test_a_question_is_answered(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/models/birds/infer", json={"id": "q1", "inputs": [X, N]})
    assert answer.status_code == 200
    said = answer.json()
    assert (said["model_name"], said["model_version"], said["id"]) == ("birds", "1", "q1")
    assert said["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]},
        {"name": "m", "datatype": "INT64", "shape": [1], "data": [20]},
    ]


async def test_only_the_wanted_outputs_come_back(client: httpx.AsyncClient) -> None:
    body = {"inputs": [{**X, "data": [[1, 2], [3, 4]]}, N], "outputs": [{"name": "m"}]}
    answer = await client.post("/v2/models/birds/versions/1/infer", json=body)
    assert [output["name"] for output in answer.json()["outputs"]] == ["m"]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("auk", "tern"), {"classes": ["auk", "tern"], "class": ["tern", "auk"]}),
        (("auk", "tern", "gull"), None),
        ((), None),
    ],
)
async def test_an_answer_names_each_rows_class_where_the_model_knows_as_many_as_it_scores(
    tmp_path: Path, classes: tuple[str, ...], said: dict[str, list[str]] | None
) -> None:
    path = write_model(tmp_path / "1.onnx", 1.0)
    write_class_names(Named(classes), path)
    models = Models()
    models.switch(Model(ServedModel(name="birds", version=1, copy="global", digest=digest_of(b"")), path))
    server = await InferenceServer.start(models)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        answer = await client.post("/v2/models/birds/infer", json={"inputs": [{**X, "data": [1, 2, 4, 3]}, N]})
    await server.stop()
    scores, number = answer.json()["outputs"]
    assert scores.get("parameters") == said
    assert "parameters" not in number


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[1, 0], [0, 0]]), ["tern", "auk", "auk", "auk"]),
        (np.array([2]), []),
        (np.array([-1]), []),
        (np.array([[[0.1, 0.9], [0.8, 0.2]]]), ["tern", "auk"]),
        (np.array([0.1, 0.9]), []),
        (np.array(["auk"]), []),
    ],
    ids=["numbers", "above all", "below all", "a sequence", "no axis of classes", "text"],
)
def test_only_what_tells_a_class_is_named(tmp_path: Path, array: np.ndarray, said: list[str]) -> None:
    path = write_model(tmp_path / "1.onnx", 1.0)
    write_class_names(Named(("auk", "tern")), path)
    opened = Model(ServedModel(name="birds", version=1, copy="global", digest=digest_of(b"")), path)
    assert opened.names("y", array) == said
    assert opened.names("m", array) == []


async def test_the_server_and_its_model_describe_themselves(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2")).json()["name"] == "archipel"
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).status_code == 200
    assert (await client.get("/v2/models/birds/ready")).json() == {"name": "birds", "ready": True}
    said = (await client.get("/v2/models/birds/versions/1")).json()
    assert said["platform"] == "onnx_onnxv1"
    assert said["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "n", "datatype": "INT64", "shape": [1]},
    ]


async def test_a_server_without_models_lives_but_is_not_ready() -> None:
    server = await InferenceServer.start(Models())
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 400
    await server.stop()


class Wrong(msgspec.Struct):
    name: str
    status: int
    says: str
    body: Any = None
    path: str = "/v2/models/birds/infer"
    raw: bytes | None = None
    headers: dict[str, str] = {}


WRONG = [
    Wrong("unknown model", 404, "did you mean 'birds'", {"inputs": []}, "/v2/models/brids/infer"),
    Wrong("unknown version", 404, "version", {"inputs": []}, "/v2/models/birds/versions/2/infer"),
    Wrong("unknown page", 404, "Not Found", {}, "/v2/models/birds/explain"),
    Wrong("no JSON", 400, "not an inference request", raw=b"{"),
    Wrong("no inputs", 400, "inputs", {}),
    Wrong("unknown field", 400, "output", {"inputs": [X, N], "output": []}),
    Wrong("missing input", 400, "'n' is missing", {"inputs": [X]}),
    Wrong("unknown input", 400, "unknown input 'z'", {"inputs": [X, N, {**X, "name": "z"}]}),
    Wrong("an input twice", 400, "twice", {"inputs": [X, X, N]}),
    Wrong("unknown output", 400, "unknown output 'w'", {"inputs": [X, N], "outputs": [{"name": "w"}]}),
    Wrong("unknown datatype", 400, "FLOAT", {"inputs": [{**X, "datatype": "FLOAT"}, N]}),
    Wrong("other datatype", 400, "takes FP32", {"inputs": [{**X, "datatype": "FP64"}, N]}),
    Wrong("too few values", 400, "3 values", {"inputs": [{**X, "data": [1, 2, 3]}, N]}),
    Wrong("other shape", 400, "takes [-1, 2]", {"inputs": [{**X, "shape": [4, 1]}, N]}),
    Wrong("negative side", 400, "negative", {"inputs": [{**X, "shape": [-2, -2]}, N]}),
    Wrong("text for a number", 400, "no FP32", {"inputs": [{**X, "data": [1, "2", 3, 4]}, N]}),
    Wrong("a fraction for an integer", 400, "no INT64", {"inputs": [X, {**N, "data": [1.5]}]}),
    Wrong("too large an integer", 400, "no INT64", {"inputs": [X, {**N, "data": [2**63]}]}),
    Wrong("null", 400, "no FP32", {"inputs": [{**X, "data": [1, None, 3, 4]}, N]}),
    Wrong("binary", 400, "binary", {"inputs": []}, headers={"Inference-Header-Content-Length": "3"}),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
async def test_a_question_that_does_not_fit_is_refused(case: Wrong, client: httpx.AsyncClient) -> None:
    sent: dict[str, Any] = {"content": case.raw} if case.raw is not None else {"json": case.body}
    answer = await client.post(case.path, headers=case.headers, **sent)
    assert answer.status_code == case.status
    assert set(answer.json()) == {"error"}
    assert case.says in answer.json()["error"]


async def test_a_get_where_a_post_belongs_is_refused_in_the_same_form(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v2/models/birds/infer")
    assert answer.status_code == 405
    assert set(answer.json()) == {"error"}


async def test_a_new_version_takes_over_without_a_failed_question(
    client: httpx.AsyncClient, models: Models, tmp_path: Path
) -> None:
    seen: set[tuple[str, float]] = set()
    stop, first, second = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            answer = await client.post("/v2/models/birds/infer", json={"inputs": [X, N]})
            assert answer.status_code == 200
            said = answer.json()
            seen.add((said["model_version"], said["outputs"][0]["data"][0]))
            (first if said["model_version"] == "1" else second).set()

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    await first.wait()
    models.switch(model(tmp_path, version=2, factor=5.0))
    await second.wait()
    stop.set()
    await asyncio.gather(*asking)
    assert seen == {("1", 2.0), ("2", 5.0)}


async def test_the_port_stays_the_same_if_it_is_free(models: Models) -> None:
    first = await InferenceServer.start(models)
    await first.stop()
    second = await InferenceServer.start(models, first.port)
    assert second.port == first.port
    third = await InferenceServer.start(models, first.port)
    assert third.port != first.port
    await second.stop()
    await third.stop()


async def test_it_listens_on_loopback_only(models: Models) -> None:
    server = await InferenceServer.start(models)
    addresses = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(address, server.port)
    assert server.url.startswith("http://127.0.0.1:")
    await server.stop()


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(TaskError, match="'birds' version 3 cannot be served"):
        Model(ServedModel(name="birds", version=3, copy="global", digest=digest_of(b"")), path)


@given(data=st.data(), datatype=st.sampled_from([name for name in NUMPY_OF if name != "BYTES"]))
def test_a_tensor_comes_back_as_it_went(data: st.DataObject, datatype: str) -> None:
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    finite = {"allow_nan": False, "allow_infinity": False} if NUMPY_OF[datatype].kind == "f" else {}
    array = data.draw(hnp.arrays(NUMPY_OF[datatype], shape, elements=finite or None))
    sent = msgspec.json.decode(msgspec.json.encode(from_array("x", array)), type=Tensor)
    back = to_array(sent)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes() or np.array_equal(back, array)


def test_bytes_are_text() -> None:
    tensor = Tensor(name="words", datatype="BYTES", shape=(2,), data=["ein", "二"])
    assert from_array("words", to_array(tensor)).data == ["ein", "二"]
    with pytest.raises(SpecError, match="no BYTES"):
        to_array(Tensor(name="words", datatype="BYTES", shape=(1,), data=[1]))
