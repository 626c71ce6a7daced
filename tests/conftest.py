"""Fixtures for all tests: real servers, started when first asked for."""

from __future__ import annotations

pytest_plugins = ["servers"]
