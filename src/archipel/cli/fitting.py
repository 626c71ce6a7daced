"""Showing whether a job's training step fits devices that are not here.

show_fit(job_file, presets, data, rows, console, as_json=False)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from archipel.cli import wording
from archipel.cli.answering import stdout_alone
from archipel.cli.local import LocalRun
from archipel.simulation.opening import open_here
from archipel.spec import DataError, JobSpec, StateError, TaskError, encode
from archipel.spec.device import SAID, StepFit
from archipel.spec.quantities import Work
from archipel.tasks.extras import require_extra
from archipel.tasks.port import Adapter


def show_fit(
    job_file: Path,
    presets: tuple[str, ...],
    data: Path | None,
    rows: int | None,
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Compile a step of the job for each kind of TPU, and print what it takes.

    Raises:
        TaskError: the task's loss cannot be lowered; says why.
        MissingExtraError: JAX or libtpu is not installed.
    """
    require_extra("jax", "--fit")
    require_extra("tpu", "--fit")
    from archipel.tasks.devices.tpu import speak_for_nobody

    speak_for_nobody()
    from archipel.tasks.devices.fitting import MESH, MESH_FLAG, drift_over, fit_step

    # Before JAX starts: the processor alone computes here, as a mesh.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {MESH_FLAG}={MESH}".strip()
    with stdout_alone(as_json=as_json):
        local = LocalRun(job_file, presets, data, console)
        adapter, _ = open_here(local.job, local.folder, _rows_of_one(local, data))
        step = _step(adapter, local.job)
        found = list(fit_step(step, rows or _divisible(step.local.batch_size)))
        drift = drift_over(step, adapter.initial(local.job.federation.seed).vector)
    if as_json:
        print(encode({"fits": found, "mesh": {"devices": MESH, "drift": drift}}).decode())
        return
    _say(local.job.name, found, console)
    said = f"the same step, executed on {MESH} devices of this processor: its weights moved as on one"
    console.print(f"{said}, but for {drift:.1e} of the step", highlight=False, soft_wrap=True)


def _step(adapter: Adapter, job: JobSpec) -> Any:
    """Return the job's training step.

    Raises:
        TaskError: its loss cannot be lowered; says why.
    """
    make = getattr(adapter, "training_step", None)
    hint = "it trains on processors and GPUs as it is; only XLA's devices need this"
    if make is None:
        raise TaskError(f"a task of {job.task.framework} cannot be compiled for XLA's devices", hint=hint)
    try:
        return make(job.federation.local)
    except TaskError as error:
        raise TaskError(error.message, hint=hint) from error


def _rows_of_one(local: LocalRun, data: Path | None) -> Path:
    """Return one site's rows: shapes are the same at all."""
    if local.job.data.prepare is None:
        if data is None:
            hint = "archipel devices --fit JOB --data PATH"
            raise DataError(f"job {local.job.name!r} has no `prepare` in [data], so it needs --data", hint=hint)
        return data.resolve()
    with local.fleet.lock() as mine:
        folders = local.prepare(mine=mine)
    if not folders:
        raise StateError("`prepare` made no folder", hint="see the job's README for its --data")
    return folders[min(folders)]


def _divisible(batch_size: int, by: int = 8) -> int:
    """Return the next number of rows that every slice can divide."""
    return -(-batch_size // by) * by


def _say(name: str, found: list[StepFit], console: Console) -> None:
    first = found[0]
    console.print(
        f"[bold]A training step of {name}[/]: {first.rows} rows in {first.dtype}, divided among the cores of a slice; "
        f"{SAID[first.label]} by {first.backing}, nothing ran on it",
        highlight=False,
        soft_wrap=True,
    )
    for fit in found:
        between = ", ".join(f"{count} {what}" for what, count in fit.collectives.items())
        verdict = "[green]fits[/]" if fit.fits else "[red]does not fit[/]"
        memory = f"{wording.size(fit.needed_bytes)} of {wording.size(fit.available_bytes)} stated"
        flop = "" if fit.flop is None else f", {Work(fit.flop)}"
        console.print(
            f"    {fit.device} ({fit.topology}, {fit.cores} cores) {verdict}: a core {memory}{flop}; "
            f"between cores {between or 'nothing'}",
            highlight=False,
            soft_wrap=True,
        )
