"""Which codec a site of a job has: the job says it, so both ends know, in a simulation as between real sites.

codec_of(job.federation.compression, "biscoe")     # None: its updates are sent as they are
"""

from __future__ import annotations

import msgspec

from archipel.data.compression.low_rank import LowRank
from archipel.data.compression.port import Codec
from archipel.data.compression.quantised import Quantised
from archipel.data.compression.top_k import TopK
from archipel.spec import SpecError
from archipel.spec.compression import CompressionKind, CompressionSpec


def codec_of(spec: CompressionSpec | None, site: str) -> Codec | None:
    """Return the codec of a site's updates; None: they are sent as they are.

    Raises:
        SpecError: kind = "auto" for this site.
    """
    if spec is None:
        return None
    kind = spec.sites.get(site, spec.kind)
    if kind == "auto":
        raise SpecError(
            'kind = "auto" in [federation.compression] is picked by the speed of the sites\' links',
            hint="`archipel plan JOB --what-if FLEET.toml` picks, and prints what to write instead",
        )
    return codec(spec, kind)


def common_codec(spec: CompressionSpec | None) -> Codec | None:
    """Return the codec of the clients of a simulated population, which no [federation.compression.sites] names."""
    return None if spec is None else codec_of(msgspec.structs.replace(spec, sites={}), "")


def codec(spec: CompressionSpec, kind: CompressionKind) -> Codec | None:
    """Return the codec of a kind, with the job's options."""
    match kind:
        case "none":
            return None
        case "int8":
            return Quantised(8)
        case "int4":
            return Quantised(4)
        case "top-k":
            return TopK(spec.fraction, spec.bits)
        case "low-rank":
            return LowRank(spec.rank)
