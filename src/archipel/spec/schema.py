"""JSON Schema of the job file, so that editors complete it."""

from __future__ import annotations

from typing import Any

import msgspec

from archipel.spec.job import JobSpec


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a job file; `type` is filled in by the reader and left out here."""
    schema = msgspec.json.schema(JobSpec)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    job = schema["$defs"]["JobSpec"]
    job["properties"].pop("type", None)
    job["required"] = [name for name in job["required"] if name != "type"]
    job["properties"]["preset"] = {"type": "object", "description": "Tables laid over the rest by --preset NAME."}
    return schema
