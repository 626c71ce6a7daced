"""Names of a task's classes, carried by the exported model itself: whoever holds the file can say what it answers.

They stand in the ONNX metadata under `archipel.classes`, as a JSON list in the order of the model's outputs, and are
written here for every framework; `site.inference` reads them.

Example:
    adapter.export(weights, path)
    write_class_names(task, path)                # ["Adelie", "Chinstrap", "Gentoo"]; nothing where there are none
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from archipel.data.stores.spool import full_disk_named
from archipel.tasks.port import Task

CLASS_NAMES = "archipel.classes"
"""The key of the metadata."""


def write_class_names(task: Task, exported: Path) -> None:
    """Add the names of `task.classes` to the ONNX file `exported`; a task that names none leaves it as it is."""
    names = [str(name) for name in getattr(task, "classes", ())]
    if not names:
        return
    import onnx  # noqa: PLC0415 (only a site that exports needs it)

    said = onnx.StringStringEntryProto(key=CLASS_NAMES, value=msgspec.json.encode(names).decode())
    # One protobuf message after another reads as one message with both their fields: the weights are not read again.
    with full_disk_named(exported.parent), exported.open("ab") as file:
        file.write(onnx.ModelProto(metadata_props=[said]).SerializeToString(deterministic=True))
