"""`python -m archipel.tasks.devices ADAPTER [NICENESS]`: ask one adapter; prints a DeviceSurvey as JSON."""

from __future__ import annotations

import os
import sys
import time

from archipel.spec import encode
from archipel.tasks.devices.survey import measure


def main() -> None:
    """Measure the adapter that the command line names; what frameworks print goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    name, *niceness = sys.argv[1:]
    os.nice(*map(int, niceness or ["0"]))
    data = encode(measure(name, time.time()))
    with os.fdopen(out, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
