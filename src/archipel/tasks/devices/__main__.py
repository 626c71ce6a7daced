"""Ask device adapters in a process of their own, and print what they found (DeviceSurvey, JSON).

python -m archipel.tasks.devices ask ADAPTER NICENESS     that adapter, in this process
python -m archipel.tasks.devices survey CACHE NICENESS    all of them, each in a process of its own
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from archipel.spec import encode
from archipel.tasks.devices.survey import measure, survey_devices


def main() -> None:
    """Do what the command line says; what frameworks print goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    verb, name, niceness = sys.argv[1:]
    os.nice(int(niceness))
    found = measure(name, time.time()) if verb == "ask" else survey_devices(cache=Path(name))
    with os.fdopen(out, "wb") as file:
        file.write(encode(found))


if __name__ == "__main__":
    main()
