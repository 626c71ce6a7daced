"""JSON Schema of the files that people write (job, fleet, policy), so that editors complete them."""

from __future__ import annotations

from typing import Any

import msgspec

from archipel.spec.fleet import FleetSpec
from archipel.spec.job import JobSpec
from archipel.spec.policy import SitePolicy
from archipel.spec.quantities import Quantity


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a job file; `type` is filled in by the reader and left out here."""
    return _file_schema(JobSpec, "Tables laid over the rest by --preset NAME.")


def fleet_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a fleet file; a quantity is text with a unit."""
    return _file_schema(FleetSpec, "Tables laid over the rest by --what-if FLEET.toml:NAME.")


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a site's policy."""
    return _file_schema(SitePolicy)


def _file_schema(kind: type[msgspec.Struct], presets: str | None = None) -> dict[str, Any]:
    schema = msgspec.json.schema(kind, schema_hook=_quantity)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document = schema["$defs"][kind.__name__]
    document["properties"].pop("type", None)
    document["required"] = [name for name in document["required"] if name != "type"]
    if presets is not None:
        document["properties"]["preset"] = {"type": "object", "description": presets}
    return schema


def _quantity(kind: type) -> dict[str, Any]:
    if not issubclass(kind, Quantity):
        raise NotImplementedError(kind)
    example = f"1 {kind.shown_in[-1].replace('money', 'EUR')}"
    return {"type": "string", "description": f"{kind.__doc__} Text with a unit.", "examples": [example]}
