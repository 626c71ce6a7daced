"""Loaded by every Python process of a fleet under test (PYTHONPATH): puts gates where a job's own code has no place.

join.SITE          before a site joins
KIND-STEP.SITE     in a site's worker, before it waits for its turn in a round; such as train-2.north
"""

from __future__ import annotations

import os
import sys

import gate

if gate.FOLDER in os.environ and os.environ.get("ARCHIPEL_ROLE", "").startswith("site/"):
    _SITE = os.environ["ARCHIPEL_ROLE"].removeprefix("site/")

    if "join" in sys.orig_argv:
        gate.come_to(f"join.{_SITE}")

    if "archipel.site" in sys.orig_argv:
        import msgspec

        from archipel.site.sandbox import Enclosure, Guard, View

        _ENCLOSE = Guard.enclose

        def _with_gates(self: Guard, view: View) -> Enclosure:
            """Let the sandboxed worker come to its gates: it has no business with any other folder of the test's."""
            enclosure, folder = _ENCLOSE(self, view), os.environ[gate.FOLDER]
            environment = {**enclosure.environment, gate.FOLDER: folder}
            confinement, words = enclosure.confinement, enclosure.words
            if confinement is not None:
                confinement = msgspec.structs.replace(confinement, own=(*confinement.own, folder))
            if words:
                last = words.index("--remount-ro")
                words = (*words[:last], "--bind", folder, folder, *words[last:])
            changes = {"environment": environment, "confinement": confinement, "words": words}
            return msgspec.structs.replace(enclosure, **changes)

        Guard.enclose = _with_gates

    if "archipel.site.worker" in sys.orig_argv:
        from archipel.site.worker import frames

        _READ = frames.read_frame

        def _gated(stream: object, side: str) -> object:
            value = _READ(stream, side)
            if isinstance(value, frames.Execute):
                gate.come_to(f"{value.task.kind}-{value.task.step}.{_SITE}")
            return value

        frames.read_frame = _gated
