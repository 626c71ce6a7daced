"""Execute a RoundTask: the one function live sites and the simulation share.

    Worker.execute(task, progress) → Update

    1. open what the task is about: the data set (held against the contract), the bundle's code, the adapter
    2. do the kind of work asked for; big results go into the spool, hashed and flushed
    3. hand the update and the state it leads to over to the site's memory, together

Rules: the same task, data and state give the same bytes; what is opened once is kept (data set by name and contract,
task by bundle, adapter by bundle, job and statistics); wall time is reported and never enters a result.

Example:
    worker = Worker("torgersen", {"birds": Path("birds.csv")}, Spool(folder), RunMemory())
    update = worker.execute(task, lambda done: None)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from archipel.data.bundle import open_bundle
from archipel.data.compression.choice import codec_of
from archipel.data.compression.port import Codec
from archipel.data.dataset import open_dataset
from archipel.data.site_data import SiteData
from archipel.federated.fit import require_fit
from archipel.security.privacy import require_private_fit
from archipel.site.worker.compressing import compress
from archipel.site.worker.memory import CONTROL, PERSONALISED, PERSONALISED_ONNX, RESIDUE, Memory
from archipel.site.worker.noise import NOISE_KEY, noise_secret
from archipel.site.worker.schedule import stream
from archipel.site.worker.training import (
    clip_norm_of,
    disclosed_metrics,
    train_alone,
    train_personalised,
    train_round,
)
from archipel.site.worker.weights import (
    Blobs,
    open_arrays,
    open_weights,
    scratch_file,
    store_file,
    store_sums,
    store_tensors,
    store_vector,
)
from archipel.spec import (
    Blob,
    DataError,
    DatasetManifest,
    Kind,
    Manifest,
    Part,
    RoundTask,
    SpecError,
    StateError,
    TrustError,
    Update,
    digest_value,
    failpoint,
)
from archipel.tasks.class_names import write_class_names
from archipel.tasks.load import gather_statistics, load_task, open_adapter
from archipel.tasks.port import Adapter, Array, Progress, Sums, Task, Vector, Weights
from archipel.tasks.threads import settle_threads

T = TypeVar("T")
_MB = 1_000_000


class Result(msgspec.Struct, kw_only=True):
    """What one kind of work came to; the update is made of it."""

    parts: dict[str, Part] = {}
    metrics: dict[str, float] = {}
    weight: float = 0.0
    dataset: DatasetManifest | None = None
    state: dict[str, Blob] = {}


class Worker:
    """Does a site's work; not for several threads at once."""

    def __init__(
        self,
        site: str,
        datasets: Mapping[str, Path],
        blobs: Blobs,
        memory: Memory,
        noise: Callable[[RoundTask], bytes] | None = None,
    ) -> None:
        """Be `site`; `noise` gives the secret that a task's noise follows from, None: from a key beside the blobs."""
        self._noise = noise or partial(noise_secret, blobs.folder.parent / NOISE_KEY)
        self._site = site
        self._datasets = dict(datasets)
        self._blobs = blobs
        self._memory = memory
        self._opened: dict[tuple[str, ...], tuple[SiteData, DatasetManifest]] = {}
        self._tasks: dict[tuple[str, ...], Task] = {}
        self._gathered: dict[tuple[str, ...], Sums] = {}
        self._adapters: dict[tuple[str, ...], Adapter] = {}
        self._settled: set[str] = set()
        self._kinds: dict[Kind, Callable[[RoundTask, Progress], Result]] = {
            "check": self._check,
            "statistics": self._statistics,
            "initialise": self._initialise,
            "train": self._train,
            "alone": self._alone,
            "personalise": self._personalise,
            "evaluate": self._evaluate,
            "export": self._export,
        }

    def execute(self, task: RoundTask, progress: Progress) -> Update:
        """Do `task`; `progress` is told the share that is done.

        Raises:
            ArchipelError: the work cannot or may not be done; the class says why.
        """
        started = time.monotonic()
        if task.site != self._site:
            raise TrustError(f"a task for {task.site!r} reached {self._site!r}", hint="report this: it is a fault")
        self._settle(task.job.task.framework)
        result = self._kinds[task.kind](task, progress)
        failpoint("site.worker.before_answer")
        update = Update(
            run=task.run,
            round=task.round,
            site=task.site,
            kind=task.kind,
            parts=result.parts,
            weight=result.weight,
            metrics=result.metrics,
            dataset=result.dataset,
            seconds=time.monotonic() - started,
        )
        self._memory.keep(task, update, result.state)
        progress(1.0)
        return update

    def _settle(self, framework: str) -> None:
        if framework not in self._settled:
            settle_threads(framework)
            self._settled.add(framework)

    # ---- kinds of work --------------------------------------------------------------------------------------

    def _check(self, task: RoundTask, progress: Progress) -> Result:
        del progress
        _require_memory(task)
        _, manifest = self._dataset(task)
        self._task(task)
        asks = task.job.privacy.statistics and bool(self._sums(task))
        metrics = {"examples": float(manifest.rows)} | ({"statistics": 1.0} if asks else {})
        return Result(dataset=manifest, metrics=metrics)

    def _statistics(self, task: RoundTask, progress: Progress) -> Result:
        del progress
        if not task.job.privacy.statistics:
            hint = "set statistics = true in [privacy], or let the task do without"
            raise TrustError("the job's [privacy] does not allow statistics", hint=hint)
        return Result(parts={"sums": store_sums(self._blobs, self._label(task, "sums"), self._sums(task))})

    def _initialise(self, task: RoundTask, progress: Progress) -> Result:
        del progress
        weights = self._adapter(task).initial(task.job.federation.seed)
        privacy = task.job.privacy
        require_fit(
            task.job.federation,
            buffers=weights.buffers,
            multipliers=weights.multipliers,
            private=privacy.is_noisy,
        )
        return Result(parts={"model": self._store(task, "model", weights)})

    def _train(self, task: RoundTask, progress: Progress) -> Result:
        recalled = self._memory.recall(task.run, task.round)
        weights = self._weights(task)
        inputs = {name: _input(name, open_arrays(self._blobs, blob)) for name, blob in task.inputs.items()}
        state = {
            name: open_weights(self._blobs, blob).vector
            for name, blob in recalled.items()
            if name in {CONTROL, RESIDUE}
        }
        trained = train_round(self._adapter(task), task, weights, inputs, state, progress, self._noise_secret(task))
        codec, state_after = codec_of(task.job.federation.compression, self._site), dict(trained.state)
        if codec is None:
            parts = {
                name: store_vector(self._blobs, self._label(task, name), weights.manifest, vector)
                for name, vector in trained.parts.items()
            }
        else:
            parts, residue = self._compressed(task, codec, trained.parts, state.get(RESIDUE), weights.manifest)
            state_after |= residue
        kept = {
            name: store_vector(self._blobs, self._label(task, f"state-{name}"), weights.manifest, vector).blob
            for name, vector in state_after.items()
        }
        weight = 1.0 if task.job.federation.weighting == "uniform" else trained.metrics["examples"]
        return Result(parts=parts, metrics=disclosed_metrics(task, trained), weight=weight, state=kept)

    def _compressed(
        self, task: RoundTask, codec: Codec, parts: Mapping[str, Vector], residue: Vector | None, like: Manifest
    ) -> tuple[dict[str, Part], dict[str, Vector]]:
        """Store the one part of an update as its codec writes it; return it, and what is kept of it here."""
        [(name, delta)] = parts.items()
        entropy = stream(task.job.federation.seed, task.step, task.site)
        bound = None if task.job.privacy.central is None else clip_norm_of(task)
        sent = compress(codec, delta, like, entropy, residue=residue, bound=bound)
        part = store_tensors(self._blobs, self._label(task, name), sent.tensors, like)
        return {name: part}, {} if sent.residue is None else {RESIDUE: sent.residue}

    def _alone(self, task: RoundTask, progress: Progress) -> Result:
        adapter = self._adapter(task)
        start = adapter.initial(task.job.federation.seed) if task.model is None else self._weights(task)
        weights, metrics = train_alone(adapter, task, start, progress)
        return Result(parts={"model": self._store(task, "alone", weights, shared=task.share)}, metrics=metrics)

    def _personalise(self, task: RoundTask, progress: Progress) -> Result:
        weights, metrics = train_personalised(self._adapter(task), task, self._weights(task), progress)
        part = self._store(task, PERSONALISED, weights, shared=task.share)
        return Result(parts={"model": part}, metrics=metrics, state={PERSONALISED: part.blob})

    def _evaluate(self, task: RoundTask, progress: Progress) -> Result:
        adapter = self._adapter(task)
        sums: Sums = {}
        part = "validation" if task.step else "test"
        rows = 0.0
        for index, model in enumerate(task.models):
            scored = adapter.evaluate(open_weights(self._blobs, model.blob), part)
            rows = _rows_of(scored)
            # Where sites' sums are added unseen they must have the same names: each scores its own of a kind.
            called = model.name if task.leg is None else model.name.partition("/")[0]
            sums |= {f"{called}|{name}": value for name, value in scored.items()}
            progress((index + 1) / len(task.models))
        stored = store_sums(self._blobs, self._label(task, "sums"), sums)
        return Result(parts={"sums": stored}, metrics={"examples": rows})

    def _export(self, task: RoundTask, progress: Progress) -> Result:
        del progress
        adapter, weights = self._adapter(task), self._weights(task)
        with scratch_file(self._blobs, f"{self._label(task, 'onnx')}.onnx") as path:
            adapter.export(weights, path)
            write_class_names(self._task(task), path)
            blob = store_file(self._blobs, f"{self._label(task, 'onnx')}", path)
        own = self._memory.recall(task.run, task.round).get(PERSONALISED)
        state = {PERSONALISED_ONNX: blob} if task.model == own else {}
        return Result(parts={"onnx": Part(blob=blob, shared=task.share)}, state=state)

    def _noise_secret(self, task: RoundTask) -> bytes | None:
        """Return what this site's noise for this very task follows from: the same where it is done again."""
        if not task.job.privacy.is_noisy_at_sites:
            return None
        require_private_fit(task.job)
        return self._noise(task) if task.job.privacy.is_noisy_in_training else None

    # ---- what a task is about -------------------------------------------------------------------------------

    def _dataset(self, task: RoundTask) -> tuple[SiteData, DatasetManifest]:
        name, contract = task.job.data.dataset, task.job.data.contract
        if name not in self._datasets:
            hint = f"register it there: archipel join … --data {name}=PATH"
            raise DataError(f"site {self._site!r} has no data set {name!r}", hint=hint)
        key = (name, digest_value(contract))
        path = self._datasets[name]
        return _once(self._opened, key, lambda: open_dataset(self._site, name, path, contract))

    def _task(self, task: RoundTask) -> Task:
        spec = task.job.task
        key = (task.bundle.digest, digest_value(spec))

        def load() -> Task:
            folder = self._blobs.folder / "bundles" / task.bundle.digest.removeprefix("sha256:")
            open_bundle(bytes(self._blobs.view(task.bundle.digest)), folder)
            return load_task(folder, spec.code, spec.options)

        return _once(self._tasks, key, load)

    def _sums(self, task: RoundTask) -> Sums:
        key = (task.bundle.digest, digest_value(task.job.task), digest_value(task.job.data))
        return _once(self._gathered, key, lambda: gather_statistics(self._task(task), self._dataset(task)[0]))

    def _adapter(self, task: RoundTask) -> Adapter:
        known = task.statistics
        key = (task.bundle.digest, task.job.digest, "" if known is None else known.digest)

        def opened() -> Adapter:
            sums: Sums = {} if known is None else open_arrays(self._blobs, known)
            data, _ = self._dataset(task)
            return open_adapter(task.job, self._task(task), data, sums)

        return _once(self._adapters, key, opened)

    def _weights(self, task: RoundTask) -> Weights:
        if task.model is None:
            raise SpecError(f"a task of kind {task.kind!r} without a model", hint="report this: it is a fault")
        return open_weights(self._blobs, task.model)

    def _store(self, task: RoundTask, what: str, weights: Weights, *, shared: bool = True) -> Part:
        part = store_vector(self._blobs, self._label(task, what), weights.manifest, weights.vector)
        return msgspec.structs.replace(part, shared=shared)

    def _label(self, task: RoundTask, what: str) -> str:
        """Name a file being written: no two writers of one spool share it."""
        return f"{what} of {task.site}.{task.run}.{task.round}.{os.getpid()}.{threading.get_ident()}"


def _once(known: dict[tuple[str, ...], T], key: tuple[str, ...], make: Callable[[], T]) -> T:
    if key not in known:
        known[key] = make()
    return known[key]


def _require_memory(task: RoundTask) -> None:
    wanted = task.job.resources.memory_mb
    free = psutil.virtual_memory().available // _MB
    if wanted is not None and free < wanted:
        hint = "free memory at the site, or lower memory_mb in [resources]"
        raise StateError(f"{free} MB of memory are free, the job asks for {wanted} MB", hint=hint)


def _input(name: str, arrays: Mapping[str, Array]) -> Array:
    if name not in arrays:
        hint = "site and control must run the same archipel version"
        raise SpecError(f"input {name!r} of the task holds {', '.join(arrays) or 'nothing'}", hint=hint)
    return arrays[name].ravel()


def _rows_of(sums: Sums) -> float:
    """Rows that were scored: every metric family counts them under "FAMILY.examples"."""
    return sum(float(value.sum()) for name, value in sums.items() if name.endswith(".examples"))
