"""Loaded by every Python process of a fleet under test (PYTHONPATH): in control's, writes all that arrives to a file.

TLS hides what crosses the sockets from a recorder beside them; so this one sits where the plaintext comes out: every
gRPC message and every piece of an HTTP body or header that control receives, before anything else sees it.
"""

from __future__ import annotations

import os

if os.environ.get("ARCHIPEL_ROLE") == "control" and "ARCHIPEL_TAP" in os.environ:
    import grpc
    import uvicorn

    _FILE = open(os.environ["ARCHIPEL_TAP"], "ab", buffering=0)  # noqa: PTH123, SIM115 - open as long as the process
    _MAKE = grpc.method_handlers_generic_handler
    _INIT = uvicorn.Config.__init__

    def _keep(data: bytes) -> bytes:
        _FILE.write(b"\n--- grpc\n" + bytes(data))
        return data

    def _handlers(service: str, table: dict) -> object:
        return _MAKE(service, {name: item._replace(request_deserializer=_keep) for name, item in table.items()})

    def _tapped(app: object) -> object:
        async def call(scope: dict, receive: object, send: object) -> None:
            async def keep() -> dict:
                message = await receive()
                _FILE.write(b"\n--- http\n" + repr(scope.get("path")).encode() + bytes(message.get("body", b"")))
                return message

            await app(scope, keep, send)

        return call

    def _init(self: object, app: object, *words: object, **names: object) -> None:
        _INIT(self, _tapped(app), *words, **names)

    grpc.method_handlers_generic_handler = _handlers
    uvicorn.Config.__init__ = _init
