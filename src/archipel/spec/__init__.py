"""The nouns every room speaks: frozen, versioned values, their validation, canonical bytes and the error tree."""

from archipel.spec.canonical import Digest, Name, Value, decode, digest_of, digest_value, encode
from archipel.spec.dataset import DatasetManifest
from archipel.spec.errors import (
    ArchipelError,
    DataError,
    DigestError,
    LinkError,
    MissingExtraError,
    NonFiniteError,
    SecureAggregationError,
    ShapeError,
    SpecError,
    StaleError,
    StateError,
    StorageFullError,
    TaskError,
    TrustError,
    UnknownNameError,
)
from archipel.spec.event import Event
from archipel.spec.failpoint import failpoint
from archipel.spec.job import Column, Contract, JobSpec, LocalTraining, read_job
from archipel.spec.model import Lineage, ModelVersion, ServedModel
from archipel.spec.plan import PhaseBytes, Plan, SiteShare
from archipel.spec.round import Blob, Kind, Leg, NamedModel, Part, Refusal, RoundTask, Update
from archipel.spec.schema import job_schema
from archipel.spec.tensors import (
    Manifest,
    TensorSpec,
    header_bytes,
    manifest_of,
    pack,
    parse_header,
    require_finite,
    unpack,
)

__all__ = [
    "ArchipelError",
    "Blob",
    "Column",
    "Contract",
    "DataError",
    "DatasetManifest",
    "Digest",
    "DigestError",
    "Event",
    "JobSpec",
    "Kind",
    "Leg",
    "Lineage",
    "LinkError",
    "LocalTraining",
    "Manifest",
    "MissingExtraError",
    "ModelVersion",
    "Name",
    "NamedModel",
    "NonFiniteError",
    "Part",
    "PhaseBytes",
    "Plan",
    "Refusal",
    "RoundTask",
    "SecureAggregationError",
    "ServedModel",
    "ShapeError",
    "SiteShare",
    "SpecError",
    "StaleError",
    "StateError",
    "StorageFullError",
    "TaskError",
    "TensorSpec",
    "TrustError",
    "UnknownNameError",
    "Update",
    "Value",
    "decode",
    "digest_of",
    "digest_value",
    "encode",
    "failpoint",
    "header_bytes",
    "job_schema",
    "manifest_of",
    "pack",
    "parse_header",
    "read_job",
    "require_finite",
    "unpack",
]
