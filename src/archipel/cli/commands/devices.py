"""`archipel devices`: what computes here, or at a site, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from archipel.cli.commands.jobs import Data, Presets
from archipel.cli.planes import Control, Json, OperatorFile, State, connect
from archipel.spec import encode


def devices(
    *,
    adapter: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, help="Ask this adapter alone; may be given again."),
    ] = (),
    fresh: Annotated[bool, Parameter(negative="", show_default=False, help="Measure again.")] = False,
    site: Annotated[
        str | None, Parameter(help="What this site has to work with, as it told its control plane.")
    ] = None,
    sites: Annotated[bool, Parameter(negative="", show_default=False, help="All sites, a line each.")] = False,
    fit: Annotated[
        Path | None, Parameter(help="A job.toml: compile its training step for TPUs, and say whether it fits.")
    ] = None,
    data: Data = None,
    preset: Presets = (),
    rows: Annotated[int | None, Parameter(help="With --fit: rows of a step, over all cores.")] = None,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Show what computes on this machine: measured in seconds, kept until the machine or its software changes.

    A label says what is possible here: executed (programs run on it), emulated bit-exact, compiled for (its compiler
    is here, it is not) or selected (it is there, and nothing installed computes on it).

    With --site or --sites, what sites found at theirs: devices, memory, disks, links, load and hours.
    """
    if fit is not None:
        from archipel.cli.fitting import show_fit

        show_fit(fit, preset, data, rows, Console(), as_json=as_json)
        return
    if site is not None or sites:
        _show_sites(site, state, control, operator, as_json=as_json)
        return
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


def _show_sites(
    site: str | None, state: Path | None, control: str | None, operator: Path | None, *, as_json: bool
) -> None:
    from archipel.cli.measuring import show_inventory, show_sites

    with connect(state, control, operator) as client:
        if site is None:
            found = client.inventories()
            names = tuple(view.name for view in client.sites())
        else:
            history = client.inventory(site)
    if site is None:
        if as_json:
            print(encode({"sites": found}).decode())
        else:
            show_sites(names, found, Console())
    elif as_json:
        print(encode(history).decode())
    else:
        show_inventory(site, history.inventories, Console())
