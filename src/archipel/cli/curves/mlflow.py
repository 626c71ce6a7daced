"""Simulations as runs of MLflow, in a database file or at a tracking server.

    log_run("points", result, "sqlite:///mlflow.db")

An experiment is a job's name; a run has the job's keys for parameters, the figures of the rounds for metrics, and the
digests of model, data and code for tags. MLflow's own telemetry is switched off: nothing goes elsewhere than to `uri`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from archipel.cli.curves.tensorboard import scalars
from archipel.simulation.result import Result, flat
from archipel.spec import ArchipelError, MissingExtraError, SpecError

T = TypeVar("T")
SCHEMES = ("sqlite:", "postgresql", "mysql", "mssql", "http:", "https:")
_TAGS = ("version", "job_digest", "code", "data", "model_digest", "executor")
_BATCH = 900
"""Values at a time; servers refuse a thousand."""
_MOST = 90
"""Parameters at a time; servers refuse a hundred."""


def require_mlflow(uri: str) -> None:
    """Refuse to begin without MLflow, or with a place that it does not write to.

    Raises:
        SpecError: `uri` is neither a database nor a server.
        MissingExtraError: MLflow is not installed.
    """
    if not uri.startswith(SCHEMES):
        hint = "write sqlite:///FILE.db, or the address of a tracking server (MLflow has given up folders)"
        raise SpecError(f"MLflow keeps no runs in {uri!r}", hint=hint)
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError("logging to MLflow needs mlflow-skinny", hint="pip install 'archipel[mlflow]'")


def log_run(name: str, result: Result, uri: str) -> str:
    """Log a simulation as a run called `name`; return the run's id.

    Raises:
        ArchipelError: MLflow could not keep it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient, MlflowException
    from mlflow.entities import Metric, Param, RunTag

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    began = result.finished_at - result.seconds
    tags = {key: getattr(result, key) for key in _TAGS}
    params = {key: str(value) for key, value in flat(msgspec.to_builtins(result.job)).items() if value is not None}
    metrics = [
        Metric(metric, value, int(at * 1000), step)
        for step, at, values in scalars(result)
        for metric, value in values.items()
    ]
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(result.job.name)
        experiment = found.experiment_id if found else client.create_experiment(result.job.name)
        run: str = client.create_run(experiment, start_time=int(began * 1000), run_name=name).info.run_id
        client.log_batch(run, tags=[RunTag(f"archipel.{key}", value) for key, value in tags.items()])
        for told in _cut([Param(key, value) for key, value in params.items()], _MOST):
            client.log_batch(run, params=told)
        for scored in _cut(metrics, _BATCH):
            client.log_batch(run, metrics=scored)
        client.set_terminated(run, end_time=int(result.finished_at * 1000))
    except MlflowException as error:
        hint = "see to the place it names; `archipel compare RESULT --mlflow URI` logs a finished simulation again"
        raise ArchipelError(f"MLflow at {uri}: {error}", hint=hint) from error
    return run


def _cut(values: list[T], size: int) -> Iterator[list[T]]:
    yield from (values[start : start + size] for start in range(0, len(values), size))
