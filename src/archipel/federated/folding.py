"""Carrying out a Fold over blobs in a spool: the one place where control and a simulation turn updates into a model.

    folded = carry_out(fold, job.federation, spool)          # the fold's blobs must be in the spool
    for instruction in coordinator.handle(folded): ...

The same fold always writes the same bytes, so it may be repeated after a crash. An update that turns out to be
unusable is raised by site, and `rejection` makes of it the event that the coordinator takes; other failures (disk
full, a blob missing, no weight at all) are raised, and the driver reports them as RunFailed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.data.compression.choice import codec_of
from archipel.data.compression.port import Codec
from archipel.data.stores.files import Draft
from archipel.data.stores.spool import Spool, full_disk_named
from archipel.federated.algorithms import algorithm_of
from archipel.federated.blocks import (
    ArrayBlocks,
    FileBlocks,
    OpenedTensors,
    StateBlocks,
    TensorFile,
    TensorFileWriter,
)
from archipel.federated.contribution import (
    Contribution,
    NonFiniteUpdateError,
    ShapeUpdateError,
    UnusableUpdateError,
)
from archipel.federated.decoding import DELTA, DecodedBlocks
from archipel.federated.fold import MODEL, fold
from archipel.federated.means import BLOCK
from archipel.federated.port import Algorithm, Fold, RoundFolded, UpdateRejected
from archipel.federated.private_mean import Noising, was_within
from archipel.federated.robust.robust import robust_of
from archipel.federated.secure.opening import MASKED, open_total
from archipel.federated.secure.vector import Total
from archipel.federated.sums import add_sums
from archipel.spec import (
    Blob,
    Manifest,
    Part,
    Refusal,
    ShapeError,
    SpecError,
    UnknownNameError,
    Update,
    failpoint,
    manifest_of,
    pack,
    unpack,
)
from archipel.spec.job import FederationSpec

OPEN_FILES = 256
"""More update files than this are opened for each block instead of being held open."""
MAX_SUMS_BYTES = 256 * 1024 * 1024
"""Sums are read whole, one site at a time: more than this from one site is refused, not read."""
_SAME_MODEL = "the task must build the same model at every site"


def carry_out(
    order: Fold, federation: FederationSpec, spool: Spool, label: str = "fold", noising: Noising | None = None
) -> RoundFolded:
    """Combine the updates of `order`; results go into the spool under their digests.

    `label` keeps the unfinished files of several runs apart; `noising` is that of a run with [privacy.central].

    Raises:
        UnusableUpdateError: one site's update holds NaN or infinity, or is laid out otherwise; see `rejection`.
        SpecError: too few updates for the job's robust rule.
        StateError: a blob is not in the spool.
        StorageFullError: the disk is full; what was there stays as it was.
        TaskError: the updates have no weight, or the new model is not finite.
    """
    with full_disk_named(spool.folder):
        match order.kind:
            case "train":
                return _train(order, federation, spool, label, noising)
            case "initialise":
                return _initialise(order, spool)
            case "statistics" | "evaluate":
                return _add(order, spool)
    raise UnknownNameError.of("kind of fold", order.kind, ["train", "initialise", "statistics", "evaluate"])


def rejection(order: Fold, error: UnusableUpdateError) -> UpdateRejected:
    """Return the event that takes an unusable update out of the round."""
    refusal = Refusal(
        run=order.updates[0].run,
        round=order.round,
        site=error.site,
        error=error.kind,
        message=error.message,
        hint=error.hint,
    )
    return UpdateRejected(refusal=refusal)


def _train(order: Fold, federation: FederationSpec, spool: Spool, label: str, noising: Noising | None) -> RoundFolded:
    assert order.model is not None
    algorithm = algorithm_of(federation)
    private = None if noising is None else noising.mean_of(order, federation)
    with ExitStack() as stack:
        model = stack.enter_context(TensorFile(partial(spool.open, order.model.digest)))
        metrics: dict[str, float] = {}
        if order.unmasking is None:
            contributions = _contributions(order, federation, model.manifest, spool, stack)
        else:
            total = _opened_total(order, spool)
            contributions, metrics = [_summed(algorithm, total, model)], _numbers(total)
        state = None
        if order.state is not None:
            state = StateBlocks(stack.enter_context(TensorFile(partial(spool.open, order.state.digest))))
        model_out = stack.enter_context(
            TensorFileWriter(partial(spool.draft, f"{label}-model"), model.manifest, {MODEL: 0})
        )
        state_out = stack.enter_context(_state_writer(partial(spool.draft, f"{label}-state"), algorithm, model))
        outliers = fold(
            algorithm,
            order.facts,
            contributions,
            robust=robust_of(federation),
            model_in=FileBlocks({MODEL: model}),
            state_in=state,
            model_out=model_out,
            state_out=state_out,
            private=private,
        )
    failpoint("federated.fold.before_adopt")
    after = None if state_out is None else spool.adopt(state_out.draft)
    clip_norm = None if private is None else private.next_clip([was_within(update) for update in order.updates])
    return RoundFolded(
        round=order.round,
        model=spool.adopt(model_out.draft),
        state=after,
        outliers=outliers,
        clip_norm=clip_norm,
        metrics=metrics,
    )


def _opened_total(order: Fold, spool: Spool) -> Total:
    assert order.unmasking is not None
    return open_total(order.unmasking, (update.parts[MASKED].blob for update in order.updates), spool)


def _summed(algorithm: Algorithm, total: Total, model: TensorFile) -> Contribution:
    """Return the weighted mean update as the one contribution: it is all there is to fold."""
    [name] = algorithm.weighted
    mean = np.empty(0) if total.update is None else total.update
    return Contribution(site="sum", weight=total.weight, parts=ArrayBlocks({name: mean.astype(model.dtype)}))


def _numbers(total: Total) -> dict[str, float]:
    return {name: float(value) for name, value in total.sums.items() if value.shape == ()}


def _contributions(
    order: Fold, federation: FederationSpec, model: Manifest, spool: Spool, stack: ExitStack
) -> list[Contribution]:
    algorithm = algorithm_of(federation)
    names = (*algorithm.weighted, *algorithm.uniform)
    keep = len(order.updates) * len(names) <= OPEN_FILES
    contributions = []
    for update in order.updates:
        codec = codec_of(federation.compression, update.site)
        if codec is not None:
            blocks = _compressed(update, codec, model, spool, stack, keep=keep)
            contributions.append(Contribution(site=update.site, weight=update.weight, parts=blocks))
            continue
        files = {}
        for name in names:
            file = _opened(update.site, name, spool, update.parts[name].blob, keep=keep)
            files[name] = stack.enter_context(file)
            if file.manifest != model:
                message = f"part {name!r} of the update of {update.site} is laid out otherwise than the model"
                raise ShapeUpdateError(update.site, message, hint=_SAME_MODEL)
            file.manifest = model  # equal, and one object: memory must not grow with the sites
        contributions.append(Contribution(site=update.site, weight=update.weight, parts=FileBlocks(files)))
    return contributions


def _compressed(
    update: Update, codec: Codec, model: Manifest, spool: Spool, stack: ExitStack, *, keep: bool
) -> DecodedBlocks:
    try:
        file = stack.enter_context(OpenedTensors(partial(spool.open, update.parts[DELTA].blob.digest), keep=keep))
    except SpecError as error:
        raise ShapeUpdateError(update.site, f"the update of {update.site}: {error.message}", hint=error.hint) from error
    return DecodedBlocks(update.site, codec, file, model)


def _opened(site: str, name: str, spool: Spool, blob: Blob, *, keep: bool) -> TensorFile:
    try:
        return TensorFile(partial(spool.open, blob.digest), keep=keep)
    except (SpecError, ShapeError) as error:
        raise ShapeUpdateError(site, f"part {name!r} of {site}: {error.message}", hint=error.hint) from error


@contextmanager
def _state_writer(
    drafting: Callable[[int], Draft], algorithm: Algorithm, model: TensorFile
) -> Iterator[TensorFileWriter | None]:
    if not algorithm.state:
        yield None
        return
    manifest = manifest_of((name, (model.count,), model.dtype) for name in algorithm.state)
    begin = {name: index * model.count for index, name in enumerate(algorithm.state)}
    with TensorFileWriter(drafting, manifest, begin) as writer:
        yield writer


def _initialise(order: Fold, spool: Spool) -> RoundFolded:
    # The bytes that most sites made (a tie: the first by name), so that none can choose the first weights by itself.
    made = Counter(update.parts["model"].blob.digest for update in order.updates)
    [(usual, _)] = made.most_common(1)
    first = next(update for update in order.updates if update.parts["model"].blob.digest == usual)
    part = first.parts["model"]
    with _opened(first.site, "model", spool, part.blob, keep=True) as file:
        _check_model(first.site, part, file)
        return RoundFolded(round=order.round, model=part.blob, manifest=file.manifest)


def _check_model(site: str, part: Part, file: TensorFile) -> None:
    if file.count == 0:
        raise ShapeError("the model has no parameters", hint="let the task's model have at least one")
    if file.manifest.digest != part.manifest:
        raise ShapeUpdateError(site, f"the model of {site} is not laid out as it says", hint=_SAME_MODEL)
    scratch = np.empty(min(BLOCK, file.count), file.dtype)
    for start in range(0, file.count, BLOCK):
        if not np.isfinite(file.read_flat(start, min(start + BLOCK, file.count), scratch)).all():
            message = f"the first model, made at {site}, holds NaN or infinity"
            raise NonFiniteUpdateError(site, message, hint="check how the task initialises its weights")


def _add(order: Fold, spool: Spool) -> RoundFolded:
    if order.unmasking is not None:
        return RoundFolded(round=order.round, model=None, sums=spool.put(pack(_opened_total(order, spool).sums)))
    sums = add_sums((update.site, _sums(update, spool)) for update in order.updates)
    return RoundFolded(round=order.round, model=None, sums=spool.put(pack(sums)))


def _sums(update: Update, spool: Spool) -> dict[str, npt.NDArray[Any]]:
    with spool.open(update.parts["sums"].blob.digest) as file:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_SUMS_BYTES:
            message = f"sums of {update.site} take {size} bytes, at most {MAX_SUMS_BYTES} are read"
            raise ShapeUpdateError(update.site, message, hint="let the task return fewer or coarser sums")
        file.seek(0)
        data = file.readall()
    try:
        return unpack(data)
    except SpecError as error:
        raise ShapeUpdateError(update.site, f"sums of {update.site}: {error.message}", hint=error.hint) from error
