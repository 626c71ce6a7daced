"""`archipel devices`: what computes here, or at a site, and how fast."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from archipel.cli.planes import Json
from archipel.spec import encode


def devices(
    *,
    adapter: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, help="Ask this adapter alone; may be given again."),
    ] = (),
    fresh: Annotated[bool, Parameter(negative="", show_default=False, help="Measure again.")] = False,
    as_json: Json = False,
) -> None:
    """Show what computes on this machine: measured in seconds, kept until the machine or its software changes.

    A label says what is possible here: executed (programs run on it), emulated bit-exact, compiled for (its compiler
    is here, it is not) or selected (it is there, and nothing installed computes on it).
    """
    from archipel.cli.measuring import show_survey
    from archipel.tasks.devices.adapters import ADAPTERS
    from archipel.tasks.devices.survey import cache_folder, survey_devices

    console = Console(stderr=True)
    with console.status("measuring") as status:
        found = survey_devices(
            adapter or tuple(ADAPTERS),
            cache=cache_folder(),
            fresh=fresh,
            say=lambda name: status.update(f"measuring by {name}"),
        )
    if as_json:
        print(encode(found).decode())
        return
    show_survey(found, Console())
