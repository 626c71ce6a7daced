"""Simulations as event files of TensorBoard, a folder each; `tensorboard --logdir FOLDER` shows them.

    write_events(result, folder / "points")

TensorBoard's own messages and its writer of records are used, which import neither torch nor TensorFlow. A file is
whole or not there, and the same simulation written again takes its own file's place.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from archipel.cli.wording import COUNTS
from archipel.data.stores.spool import full_disk_named
from archipel.simulation.result import Result
from archipel.spec import MissingExtraError

_VERSION = "brain.Event:2"
"""What the first event of a file says of its format."""


def require_tensorboard() -> None:
    """Refuse to begin without TensorBoard.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("writing event files needs tensorboard", hint="pip install 'archipel[tensorboard]'")


def write_events(result: Result, folder: Path) -> Path:
    """Write a simulation's rounds into `folder`; return the file.

    Raises:
        StorageFullError: the disk is full.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    path = folder / f"events.out.tfevents.{int(result.finished_at)}.archipel"
    partial = path.with_name(f".{path.name}.partial")
    began = result.finished_at - sum(record.seconds for record in result.history)
    with full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=began, file_version=_VERSION).SerializeToString())
            for step, at, values in scalars(result):
                told = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
                writer.write(Event(wall_time=at, step=step, summary=Summary(value=told)).SerializeToString())
        partial.replace(path)
    return path


def scalars(result: Result) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Yield for each round its number, its time (seconds since the Unix epoch) and its figures by name.

    Names say which rows a figure is of: "training/loss", "validation/accuracy"; after the last round "test/accuracy".
    """
    at = result.finished_at - sum(record.seconds for record in result.history)
    for record in result.history:
        at += record.seconds
        values = {} if record.loss is None else {"training/loss": record.loss}
        values |= {f"validation/{name}": value for name, value in (record.figures or {}).items() if name not in COUNTS}
        values["speed/examples_per_second"] = record.examples / max(record.seconds, 1e-9)
        yield record.step, at, values
    test = {f"test/{name}": value for name, value in result.test.items() if name not in COUNTS}
    yield result.rounds, result.finished_at, test
