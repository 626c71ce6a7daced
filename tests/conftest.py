"""Fixtures for all tests: real servers, started when first asked for; and how property tests are run."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["servers"]

# No deadline: machines that run tests are shared. In CI the examples are the same each time, so that a red run is red
# again when it is repeated; elsewhere each run looks at new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
