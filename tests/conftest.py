"""For all tests: real servers, started when first asked for; the table of attacks; how property tests are run."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

pytest_plugins = ["servers", "attacks"]

# Most of what a test with JAX costs is compiling; what one test has compiled is there for the next.
COMPILED = tempfile.TemporaryDirectory(prefix="archipel-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", COMPILED.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Key files that nobody has named a place for are none of this machine's user's.
CONFIGURATION = tempfile.TemporaryDirectory(prefix="archipel-configuration-")
os.environ["XDG_CONFIG_HOME"] = CONFIGURATION.name

# No deadline: machines that run tests are shared. In CI the examples are the same each time, so that a red run is red
# again when it is repeated; elsewhere each run looks at new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
