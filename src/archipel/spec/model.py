"""ModelVersion: a registered model and where it came from; ServedModel: which copy a site answers with."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.round import Blob


class Lineage(Value, frozen=True, kw_only=True):
    """Everything a model was made from: equal lineage, equal bytes."""

    job: Digest
    bundle: Digest
    datasets: dict[Name, Digest]
    """Site → digest of its data set's manifest; who was left out after the check or the statistics is not here."""
    participation: tuple[tuple[Name, ...], ...]
    """For each training round, in order, the sites whose updates were folded."""
    previous: Digest | None = None
    """Weights of the round before the last; versions form a hash chain through the rounds table."""


class ModelVersion(Value, frozen=True, kw_only=True, tag_field="type", tag="model/1"):
    """A model in the registry."""

    name: Name
    version: Annotated[int, Meta(ge=1)]
    run: Name
    weights: Blob
    onnx: Blob | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: Lineage


class ServedModel(Value, frozen=True, kw_only=True, tag_field="type", tag="served/1"):
    """What a site serves under a model's name."""

    name: Name
    version: Annotated[int, Meta(ge=1)]
    copy: Literal["global", "personalised"]
    digest: Digest
    """Digest of the ONNX file that answers."""
    url: str = ""
    """Loopback address at the site of the Open Inference Protocol v2 endpoint, such as http://127.0.0.1:7500."""
