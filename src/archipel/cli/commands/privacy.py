"""`archipel ledger`: what runs have cost the data sets of a site, and what they may."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from archipel.cli.planes import Json
from archipel.security.privacy.budget import Budget
from archipel.site.ledger import Account
from archipel.spec import SpecError, StateError, UnknownNameError, encode


def ledger(
    folder: Annotated[Path, Parameter(help="The site's own folder, as `archipel join --folder` was given it.")],
    /,
    *,
    set_budget: Annotated[
        str | None,
        Parameter(name="--set", help="DATASET=EPSILON: let all runs on this data set cost so much together."),
    ] = None,
    delta: Annotated[float, Parameter(help="Delta at which that epsilon holds.")] = 1e-5,
    unit: Annotated[
        Literal["example", "site"], Parameter(help="Whose presence it hides: a row, or the whole site.")
    ] = "example",
    close: Annotated[
        str | None, Parameter(help="A run that will not go on: free what it reserved. It can do no more work here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show, for each data set of the site in FOLDER, its budget, what runs have reserved and what they have spent.

    It is the site's own memory: control cannot change it. With --set, first store a budget; runs that would cost more
    are refused before they work. It may be set while the site's agent runs.
    """
    from archipel.site.agent.folder import SiteFolder
    from archipel.site.journal import Journal

    place = SiteFolder(folder)
    if not place.journal.exists():
        raise StateError(f"no site has joined in {folder}", hint="name the site's own folder")
    journal = Journal(place.journal)
    try:
        if set_budget is not None:
            journal.ledger.set_budget(_budget(set_budget, delta, unit, tuple(journal.datasets())))
        if close is not None:
            journal.ledger.close(close)
        accounts = journal.ledger.accounts()
    finally:
        journal.close()
    if as_json:
        print(encode({"datasets": accounts}).decode())
    else:
        _show(accounts)


def _budget(text: str, delta: float, unit: Literal["example", "site"], datasets: tuple[str, ...]) -> Budget:
    dataset, _, epsilon = text.partition("=")
    if dataset not in datasets:
        raise UnknownNameError.of("data set of this site:", dataset, datasets)
    try:
        return msgspec.convert(
            {"type": "budget/1", "dataset": dataset, "unit": unit, "epsilon": float(epsilon), "delta": delta}, Budget
        )
    except (ValueError, msgspec.ValidationError) as error:
        hint = "such as --set penguins=8 --delta 1e-5"
        raise SpecError(f"--set {text!r} is no budget: {error}", hint=hint) from error


def _show(accounts: tuple[Account, ...]) -> None:
    console = Console()
    if not accounts:
        console.print("no budget is set, and no run with differential privacy was here", highlight=False)
    for account in accounts:
        console.print(_headline(account), highlight=False, markup=False, soft_wrap=True)
        if not account.runs:
            continue
        table = Table(box=None, pad_edge=False)
        for name in ("run", "unit", "rounds spent", "of", "epsilon", "state", "noise added by"):
            table.add_column(name, justify="right" if name in {"rounds spent", "of", "epsilon"} else "left")
        for run in account.runs:
            adds = "the coordinator" if run.trusted == "coordinator" else "the site"
            cells = (run.run, run.unit, str(run.rounds_spent), str(run.rounds_reserved), f"{run.epsilon:.3g}")
            table.add_row(*cells, "over" if run.closed else "reserved", adds)
        console.print(table)


def _headline(account: Account) -> str:
    told = f"spent epsilon {account.spent:.3g}, with reservations {account.reserved:.3g}, at delta {account.delta:.3g}"
    if account.budget is None:
        return f"{account.dataset}: no budget; {told}"
    return f"{account.dataset}: budget epsilon {account.budget.epsilon:.3g} for each {account.budget.unit}; {told}"
