"""Showing a plan before it starts: who takes part, how much moves, how long it is likely to take."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from archipel.cli import wording
from archipel.spec import Plan


def show_plan(plan: Plan, name: str, console: Console) -> None:
    """Print the plan of the job `name`."""
    table = Table(title=f"Plan of {name}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("site")
    table.add_column("rows", justify="right")
    table.add_column("labels")
    table.add_column("s a round", justify="right")
    for share in plan.participants:
        labels = ", ".join(f"{label} {wording.count(rows)}" for label, rows in share.labels.items())
        table.add_row(share.site, wording.count(share.rows), labels or "—", _interval(share.seconds_per_round))
    for site, reason in plan.refused.items():
        table.add_row(f"[red]{site}[/]", "", f"[red]{reason}[/]", "")
    console.print(table)
    model = wording.size(plan.model_bytes) if plan.model_bytes else "known after the first round"
    console.print(
        f"{plan.rounds} rounds, {plan.cohort_size} of {len(plan.participants)} sites in each; model {model}; "
        f"to move: ↓ {wording.size(plan.down_bytes)}, ↑ {wording.size(plan.up_bytes)}; "
        f"likely time: {_time(plan.seconds)}",
        highlight=False,
    )


def _interval(seconds: tuple[float, float] | None) -> str:
    return "—" if seconds is None else f"{seconds[0]:.2g} to {seconds[1]:.2g}"


def _time(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return "not known before the first run"
    return f"{wording.duration(seconds[0])} to {wording.duration(seconds[1])}"
