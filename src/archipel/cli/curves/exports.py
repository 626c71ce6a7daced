"""What a command makes of finished simulations on request: a picture, TensorBoard's event files, runs of MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from archipel.cli.curves.mlflow import log_run, require_mlflow
from archipel.cli.curves.panels import panels_of
from archipel.cli.curves.picture import draw, require_picture
from archipel.cli.curves.tensorboard import require_tensorboard, write_events
from archipel.simulation.result import Result


class Exports(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted; None: it is not."""

    curves: Path | None = None
    """A picture file."""
    tensorboard: Path | None = None
    """A folder that gets one for each simulation."""
    mlflow: str | None = None
    """Where MLflow keeps runs."""

    def require(self) -> None:
        """Refuse what could not be made when the work is done.

        Raises:
            SpecError: a name or address that nothing can be written to.
            MissingExtraError: a library is not installed.
        """
        if self.curves is not None:
            require_picture(self.curves)
        if self.tensorboard is not None:
            require_tensorboard()
        if self.mlflow is not None:
            require_mlflow(self.mlflow)

    def make(self, results: Mapping[str, Result]) -> Iterator[str]:
        """Make what is wanted of the simulations, by name; say each thing that was made.

        Raises:
            StorageFullError: the disk is full.
            ArchipelError: MLflow could not keep a run.
        """
        if self.curves is not None:
            panels = panels_of({name: result.history for name, result in results.items()})
            draw(panels, self.curves, title=", ".join(results))
            yield f"picture: {self.curves}"
        if self.tensorboard is not None:
            for name, result in results.items():
                yield f"events: {write_events(result, self.tensorboard / _folder(name))}"
        if self.mlflow is not None:
            for name, result in results.items():
                yield f"MLflow at {self.mlflow}: run {log_run(name, result, self.mlflow)}"


NOTHING = Exports()


def _folder(name: str) -> str:
    """Make a folder's name of a simulation's: presets and paths have signs that a folder may not."""
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name).strip(".-") or "simulation"
