"""`archipel schema` and `archipel version`: what this installation is and understands."""

from __future__ import annotations

import json
import platform
from typing import Annotated

from cyclopts import Parameter

from archipel import __version__

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON instead.")]


def schema(
    *,
    fleet: Annotated[bool, Parameter(negative="", show_default=False, help="Of fleet files instead.")] = False,
    policy: Annotated[bool, Parameter(negative="", show_default=False, help="Of sites' policies instead.")] = False,
) -> None:
    """Print the JSON Schema of job files.

    Save it beside a job file and name it there, and editors complete the file.
    """
    from archipel.spec.schema import fleet_schema, job_schema, policy_schema

    print(json.dumps((fleet_schema if fleet else policy_schema if policy else job_schema)(), indent=2))


def version(*, as_json: Json = False) -> None:
    """Print the version of archipel, Python and the platform."""
    facts = {"archipel": __version__, "python": platform.python_version(), "platform": platform.platform()}
    print(json.dumps(facts) if as_json else "  ".join(f"{name} {value}" for name, value in facts.items()))
