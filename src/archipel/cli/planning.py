"""Showing a plan before it starts: who takes part, how much moves, how long it is likely to take."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli import wording
from archipel.spec import Plan, SecurePlan, SiteShare
from archipel.spec.views import RunReport

_LEAST_SECONDS = 0.1


def show_plan(plan: Plan, name: str, console: Console) -> None:
    """Print the plan of the job `name`."""
    table = Table(title=f"Plan of {name}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("site")
    table.add_column("rows", justify="right")
    table.add_column("labels")
    table.add_column("s a round", justify="right")
    compresses = any(share.compression != "none" for share in plan.participants)
    if compresses:
        table.add_column("update", justify="right")
    for share in plan.participants:
        labels = ", ".join(f"{label} {wording.count(rows)}" for label, rows in share.labels.items())
        rows = wording.count(share.rows) if share.rows else "not yet counted"
        more = [_update(share)] if compresses else []
        table.add_row(share.site, rows, escape(labels) or "—", _interval(share.seconds_per_round), *more)
    for site, reason in plan.refused.items():
        table.add_row(f"[red]{site}[/]", "", f"[red]{escape(reason)}[/]", "")
    console.print(table)
    console.print(
        f"{plan.rounds} rounds, {plan.cohort_size} of {len(plan.participants)} sites in each; {_effort(plan)}",
        highlight=False,
        soft_wrap=True,
    )
    if compresses and plan.model_bytes:
        console.print(_saved(plan), highlight=False, soft_wrap=True)
    if plan.privacy is not None:
        console.print(f"privacy the job will spend: {plan.privacy}", highlight=False, markup=False, soft_wrap=True)
    if plan.secure is not None:
        for line in secure_lines(plan.secure):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_history(reports: Sequence[RunReport], name: str, console: Console) -> None:
    """Print what the plans of past runs of the job `name` forecast, and what came, the newest first."""
    table = Table(title=f"Past plans of {name}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for head in ("run", "forecast", "planned", "came", "outside by"):
        table.add_column(head, justify="right" if head in {"planned", "came", "outside by"} else "left")
    for report in reports:
        for index, grade in enumerate(report.grades):
            off = f"{grade.off:+.0%}" if grade.off else "as planned"
            table.add_row("" if index else report.run.id, grade.what, *wording.forecast(grade), off)
    console.print(table if table.row_count else f"no run of {name} has ended yet")


def secure_lines(secure: SecurePlan) -> tuple[str, ...]:
    """Say that sums are secret, among how many, and what control learns."""
    if secure.mode == "two-server":
        masks = f"at least {secure.quorum}; {secure.helper} takes the masks off"
        return (
            f"secure aggregation (two servers): sums over {secure.sites} sites, {masks}",
            *(f"  control learns {what}" for what in secure.learns),
            *(f"  {secure.helper} learns {what}" for what in secure.helper_learns),
            f"  control and {secure.helper} together could read every site's update",
        )
    head = (
        f"secure aggregation (SecAgg+): sums over {secure.sites} sites; threshold {secure.threshold}; "
        f"at least {secure.quorum} must be left at every stage"
    )
    return (head, *(f"  control learns {what}" for what in secure.learns))


def is_counted(plan: Plan) -> bool:
    """Has a check counted the sites' rows, and a first round made a model whose size is known?"""
    return plan.model_bytes > 0 and all(share.rows > 0 for share in plan.participants)


def _effort(plan: Plan) -> str:
    if not is_counted(plan):
        return "rows, bytes and time follow with the first weights"
    down, up = wording.size(plan.down_bytes), wording.size(plan.up_bytes)
    moved = f"to move in training: ↓ {down}, ↑ {up}"
    return f"model {wording.size(plan.model_bytes)}; {moved}; likely time: {_time(plan.seconds)}"


def _update(share: SiteShare) -> str:
    size = f" {wording.size(share.update_bytes)}" if share.update_bytes else ""
    return f"{share.compression}{size}"


def _saved(plan: Plan) -> str:
    sent = sum(share.update_bytes for share in plan.participants) / len(plan.participants) / plan.model_bytes
    return f"compression: updates take {sent:.3f} of their bytes"


def _interval(seconds: tuple[float, float] | None) -> str:
    if not seconds or not seconds[1]:
        return "—"
    low, high = seconds
    if high < _LEAST_SECONDS:
        return f"under {_LEAST_SECONDS}"
    if low == high:  # predicted from timed batches
        return f"{low:.1f}"
    return f"{low:.1f} to {high:.1f}" if high < 10 else f"{low:.0f} to {high:.0f}"


def _time(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return "not known before the first run"
    low, high = map(wording.duration, seconds)
    if low == high:
        return low
    return f"up to {high}" if seconds[0] < 1 else f"{low} to {high}"
