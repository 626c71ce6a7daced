"""A real OpenID Connect issuer on loopback, over HTTPS: discovery, keys that rotate, the device flow.

with running_issuer(folder) as issuer: issuer.token(sub="1", groups=["x"])
"""

from __future__ import annotations

import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import trustme
from joserfc import jwk, jwt

CLIENT = "archipel"


class Issuer:
    """A running issuer; what it says may be changed while it runs."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self.url = f"https://localhost:{port}"
        self.ca_file = ca_file
        self.keys: list[Any] = [make_key("first")]
        self.fetched: list[str] = []
        """Paths that were asked for."""
        self.documents: dict[str, Any] = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
        }
        self._numbers = itertools.count()
        self.confirmations: list[dict[str, Any]] = []
        """What the token endpoint answers, one after another."""

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "4711",
            "iat": now,
            "exp": now + 300,
            "jti": str(next(self._numbers)),
        }
        all_claims = usual | {"preferred_username": "Ana", "groups": ["staff", "scientists"]} | changed
        return {name: value for name, value in all_claims.items() if value is not None}

    def token(
        self, key: Any = None, algorithm: str | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """An ID token; `claims` changes the usual ones, None leaves one out."""
        key = key or self.keys[-1]
        algorithm = algorithm or ("ES256" if key.key_type == "EC" else "RS256")
        head = {"alg": algorithm, "kid": key.kid} | (header or {})
        return jwt.encode(
            {name: value for name, value in head.items() if value is not None},
            self.claims(**claims),
            key,
            algorithms=[algorithm],
        )

    def answer(self, path: str, form: dict[str, list[str]]) -> tuple[int, Any]:
        self.fetched.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, self.documents
        if path == "/keys":
            return 200, {"keys": [key.as_dict(private=False) for key in self.keys]}
        if path == "/device" and form["client_id"] == [CLIENT]:
            codes = {"device_code": "d-1", "user_code": "WDJB-MJHT", "verification_uri": f"{self.url}/activate"}
            return 200, codes | {"expires_in": 600, "interval": 0}
        if path == "/token" and form["device_code"] == ["d-1"]:
            found = self.confirmations.pop(0)
            return (400 if "error" in found else 200), found
        return 404, {"error": "not_found"}


def make_key(kid: str, kind: str = "RSA") -> Any:
    """A signing key."""
    made = jwk.RSAKey if kind == "RSA" else jwk.ECKey
    return made.generate_key(2048 if kind == "RSA" else "P-256", {"kid": kid, "use": "sig"}, private=True)


@contextmanager
def running_issuer(folder: Path) -> Iterator[Issuer]:
    """Serve an issuer from a thread until the block ends."""
    authority = trustme.CA()
    ca_file = folder / "issuer-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.issuer = issuer = Issuer(server.server_port, ca_file)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

    def _answer(self, form: dict[str, list[str]]) -> None:
        status, found = self.server.issuer.answer(self.path, form)  # type: ignore[attr-defined]
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
