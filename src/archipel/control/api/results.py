"""The people's door to models: versions, weights, ONNX files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from archipel.control.api.guard import needs
from archipel.control.api.office import AnyRequest, Office, office_of
from archipel.spec import Blob, ModelVersion, UnknownNameError
from archipel.spec.views import ModelsPage

PIECE_BYTES = 1024 * 1024


@get("/v1/models", opt=needs("models.read"), sync_to_thread=True, tags=["models"])
def models(request: AnyRequest) -> ModelsPage:
    """Return every model version."""
    return office_of(request).registry.list()


@get("/v1/models/{name:str}", opt=needs("models.read"), sync_to_thread=True, tags=["models"])
def versions(request: AnyRequest, name: FromPath[str]) -> ModelsPage:
    """Return the versions of one model, newest first."""
    return office_of(request).registry.list(name)


@get("/v1/models/{name:str}/{version:int}", opt=needs("models.read"), sync_to_thread=True, tags=["models"])
def version(request: AnyRequest, name: FromPath[str], version: FromPath[int]) -> ModelVersion:
    """Return one version with its lineage."""
    return office_of(request).registry.show(name, version)


@get("/v1/models/{name:str}/{version:int}/weights", opt=needs("weights.read"), sync_to_thread=True, tags=["models"])
def weights(request: AnyRequest, name: FromPath[str], version: FromPath[int]) -> Stream:
    """Return the weights, as safetensors bytes."""
    office = office_of(request)
    return _file(office, office.registry.show(name, version).weights)


@get("/v1/models/{name:str}/{version:int}/onnx", opt=needs("weights.read"), sync_to_thread=True, tags=["models"])
def onnx(request: AnyRequest, name: FromPath[str], version: FromPath[int]) -> Stream:
    """Return the model as ONNX."""
    office = office_of(request)
    blob = office.registry.show(name, version).onnx
    if blob is None:
        raise UnknownNameError(
            f"version {version} of {name!r} was not exported", hint='set [deployment] serve = "global" and run again'
        )
    return _file(office, blob)


RESULTS: list[Any] = [models, versions, version, weights, onnx]


def _file(office: Office, blob: Blob) -> Stream:
    # The first piece is read here, so that a missing file is an error and not a broken answer.
    pieces = office.artefacts.read(blob.digest, 0, PIECE_BYTES)
    first = next(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    headers = {"Content-Length": str(blob.size_bytes), "ETag": f'"{blob.digest}"'}
    return Stream(body(), media_type="application/octet-stream", headers=headers)
