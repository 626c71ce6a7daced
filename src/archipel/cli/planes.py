"""Which control plane a command speaks to, and the right to speak to it.

In this order: `--control URL` with `--operator FILE`; `--state DIR`; ARCHIPEL_STATE; `.archipel/current` in the working
directory, which `up` and `run` write. A state folder holds `operator.json`, written by control at its first start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec import structs

from archipel.cli.client import Client
from archipel.spec import StateError, decode
from archipel.spec.views import Operator

HOME = Path(".archipel")
"""Everything commands make, in the working directory."""
CURRENT = HOME / "current"
STATE = "ARCHIPEL_STATE"
OPERATOR = "operator.json"

State = Annotated[
    Path | None,
    Parameter(help="State folder of the control plane (else ARCHIPEL_STATE, else what up or run made last)."),
]
Control = Annotated[str | None, Parameter(help="Address of a control plane elsewhere; needs --operator.")]
OperatorFile = Annotated[Path | None, Parameter(name="--operator", help="Copy of that control plane's operator.json.")]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON instead.")]


def connect(state: Path | None = None, control: str | None = None, operator: Path | None = None) -> Client:
    """Return a client of the control plane the arguments, the environment or the working directory name."""
    if control is not None or operator is not None:
        return Client(remote(control, operator))
    return Client(operator_of(find_state(state)))


def remote(control: str | None, operator: Path | None) -> Operator:
    """Return the right to speak to a control plane elsewhere."""
    if operator is None:
        raise StateError(
            "a control plane elsewhere needs its operator file",
            hint="copy operator.json from its state folder, and give --operator FILE",
        )
    found = _read(operator)
    return structs.replace(found, url=control or found.url, local=None)


def find_state(state: Path | None = None) -> Path:
    """Return the state folder that is meant.

    Raises:
        StateError: nothing names one.
    """
    if state is not None:
        return state
    named = os.environ.get(STATE)
    if named:
        return Path(named)
    if CURRENT.is_file():
        return Path(CURRENT.read_text(encoding="utf-8").strip())
    raise StateError("no control plane is named", hint="start one with `archipel up`, or name one with --state DIR")


def remember(state: Path) -> None:
    """Make `state` what later commands in this directory mean."""
    HOME.mkdir(exist_ok=True)
    partial = CURRENT.with_name(f".current.{os.getpid()}")
    partial.write_text(f"{state}\n", encoding="utf-8")
    partial.replace(CURRENT)


def operator_of(state: Path) -> Operator:
    """Return how to reach the control plane of a state folder."""
    path = state / OPERATOR
    if not path.is_file():
        raise StateError(
            f"no control plane has run in {state}", hint=f"start it with `archipel up --state {state}`, or name another"
        )
    return _read(path)


def _read(path: Path) -> Operator:
    try:
        return decode(path.read_bytes(), Operator)
    except FileNotFoundError as error:
        raise StateError(
            f"no operator file at {path}", hint="copy operator.json from control's state folder"
        ) from error
