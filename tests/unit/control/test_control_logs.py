"""What control logs of a failure nobody foresaw: where it was, and none of the secrets that were at hand."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
import structlog

from archipel.control.logs import log_plainly


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log_plainly(stream)
    yield stream
    structlog.reset_defaults()


def test_a_traceback_shows_places_and_no_values(log: io.StringIO) -> None:
    secret = os.urandom(16).hex()

    def fail(secret: str) -> None:
        bearer = f"Bearer {secret}"
        raise ValueError("nobody foresaw this") from KeyError(len(bearer))

    try:
        fail(secret)
    except ValueError as error:
        structlog.get_logger().error("rest.failed", path="/v1/runs", exc_info=error)
    said = log.getvalue()
    assert "rest.failed" in said
    assert "nobody foresaw this" in said
    assert "in fail" in said
    assert secret not in said
