"""Bytes of a site's update as its job has it compressed, and which kind each site gets where the job leaves it open.

    update_bytes(job, "biscoe", sizes)                     # exact where the model's manifest is known
    job = with_picks(job, paces, manifests, sizes)         # kind = "auto" → [federation.compression.sites]

A round waits for its slowest site, so only a site whose link makes it slow gains by sending less. The pick is the
mildest kind that keeps a site within SLACK of the round as it would be with everybody at the strongest.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from archipel.data.compression.choice import codec, codec_of
from archipel.data.compression.port import Codec, encoded_bytes
from archipel.planner.estimate import RoundWork, SitePace
from archipel.planner.traffic import Sizes
from archipel.spec import DatasetManifest, JobSpec
from archipel.spec.compression import CompressionKind, CompressionSpec
from archipel.spec.tensors import manifest_of

LADDER: tuple[CompressionKind, ...] = ("none", "int8", "int4", "top-k")
"""From the mildest to the strongest; what low-rank takes depends on the model's matrices, so nobody picks it."""
SLACK = 1.05


def update_bytes(job: JobSpec, site: str, sizes: Sizes) -> int:
    """Return the bytes of one update of a site; of one that is not compressed, the model's.

    Without the model's manifest it is taken as one float32 vector, which low-rank leaves whole.
    """
    return _bytes(codec_of(job.federation.compression, site), sizes)


def with_picks(
    job: JobSpec, paces: Mapping[str, SitePace], manifests: Mapping[str, DatasetManifest], sizes: Sizes
) -> JobSpec:
    """Return the job with a kind for each site where it says "auto"; a site without a pace sends all it has."""
    spec = job.federation.compression
    if spec is None or spec.kind != "auto":
        return job
    open_ones = sorted(set(manifests) - set(spec.sites))
    times = {
        site: {kind: _seconds(job, spec, kind, paces[site], manifests[site], sizes) for kind in LADDER}
        for site in open_ones
        if site in paces
    }
    within = SLACK * max((min(each.values()) for each in times.values()), default=0.0)
    picked = {site: _mildest(each, within) for site, each in times.items()}
    sites = {site: kind for site, kind in picked.items() if kind != "none"} | spec.sites
    compression = msgspec.structs.replace(spec, kind="none", sites=sites)
    federation = msgspec.structs.replace(job.federation, compression=compression)
    return msgspec.structs.replace(job, federation=federation)


def round_work(job: JobSpec, manifest: DatasetManifest, sizes: Sizes, up_bytes: int) -> RoundWork:
    """Return what a training round asks of a site."""
    local = job.federation.local
    return RoundWork(
        rows=manifest.rows,
        epochs=local.epochs,
        batch=local.batch_size,
        down_bytes=sizes.model_bytes,
        up_bytes=up_bytes,
    )


def _mildest(times: Mapping[CompressionKind, float], within: float) -> CompressionKind:
    return next((kind for kind in LADDER if times[kind] <= within), min(LADDER, key=lambda kind: times[kind]))


def _seconds(  # noqa: PLR0917 - a site, and what it would send
    job: JobSpec, spec: CompressionSpec, kind: CompressionKind, pace: SitePace, rows: DatasetManifest, sizes: Sizes
) -> float:
    return pace.seconds(round_work(job, rows, sizes, _bytes(codec(spec, kind), sizes)))


def _bytes(found: Codec | None, sizes: Sizes) -> int:
    if not sizes.model_bytes:
        return 0
    model = sizes.manifest or manifest_of([("model", (sizes.model_bytes // 4,), np.dtype(np.float32))])
    return encoded_bytes(found, model, sizes.model_bytes)
