"""The report on the terminal: the comparison, the sites, what it took; the last thing a run says."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from archipel.cli import wording
from archipel.cli.report.values import WAYS, Comparison, Report, SiteReport

WAY_WORDS = {
    "alone": "each site alone",
    "federated": "federated",
    "personalised": "federated, then personalised",
    "pooled": "pooled in one place (reference)",
}
VERDICT_STYLES = {"gained": "green", "lost": "red", "same": "dim"}
METRIC_WORDS = {"accuracy": "accuracy", "auc": "AUC", "entity_f1": "entity F1"}


def show_report(report: Report, console: Console) -> None:
    """Print the report."""
    console.print()
    console.print(f"[bold]{headline(report)}[/]", highlight=False)
    console.print(_comparison(report))
    console.print(_sites(report))
    moved = f"↓ {wording.size(report.bytes_down)}, ↑ {wording.size(report.bytes_up)}"
    console.print(
        f"{report.rounds} rounds; {wording.size(report.bytes_moved)} moved ({moved}); "
        f"{wording.duration(report.seconds)} in all: {phase_line(report)}",
        highlight=False,
    )
    console.print(f"model {report.model_name} version {report.model_version}  {report.model_digest}", highlight=False)


def headline(report: Report) -> str:
    """Return the report in one sentence."""
    metric = METRIC_WORDS.get(report.metric, report.metric)
    figures = {way: report.overall.get(way, Comparison()).everyone.get(report.metric) for way in WAYS}
    federated = figures["federated"]
    if federated is None:
        return f"{report.job}: run {report.run} {report.state}"
    parts = [f"{len(report.sites)} sites together: {metric} {federated:.3f} on everyone's rows"]
    if figures["alone"] is not None:
        parts.append(f"alone {figures['alone']:.3f}")
    if figures["pooled"] is not None:
        parts.append(f"pooled in one place {figures['pooled']:.3f}")
    return "; ".join(parts)


def phase_line(report: Report) -> str:
    """Return the phases that took longest, in words."""
    longest = sorted(report.phases.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{name} {wording.duration(seconds)}" for name, seconds in longest)


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure, or a dash where it was not measured."""
    return "—" if value is None else f"{value:.{digits}f}"


def _comparison(report: Report) -> Table:
    metric = METRIC_WORDS.get(report.metric, report.metric)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("on the same held-out rows")
    for view in ("everyone's", "own"):
        table.add_column(f"{metric}, {view}", justify="right")
        table.add_column("log-loss", justify="right", style="dim")
    for way in WAYS:
        found = report.overall.get(way, Comparison())
        cells = [
            figure(values.get(key)) for values in (found.everyone, found.own) for key in (report.metric, "log_loss")
        ]
        table.add_row(WAY_WORDS[way], *cells, style="bold" if way == "federated" else None)
    return table


def _sites(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("site")
    table.add_column("rows", justify="right")
    for way in WAYS:
        table.add_column(way, justify="right")
    table.add_column("alone, on everyone's", justify="right")
    table.add_column("joining")
    table.add_column("disclosed", justify="right")
    if any(site.answer for site in report.sites):
        table.add_column("its answer", overflow="fold")
    for site in report.sites:
        table.add_row(*_site(site, report))
    return table


def _site(site: SiteReport, report: Report) -> list[str]:
    own = [figure(site.scores.get(way, Comparison()).own.get(report.metric)) for way in WAYS]
    style = VERDICT_STYLES.get(site.verdict, "dim")
    gain = "" if site.gain is None else f" {site.gain:+.3f}"
    disclosed = wording.size(sum(item.size_bytes for item in site.disclosed))
    away = figure(site.scores.get("alone", Comparison()).everyone.get(report.metric))
    cells = [site.name, wording.count(site.rows), *own, away, f"[{style}]{site.verdict}{gain}[/]", disclosed]
    return [*cells, site.answer] if any(item.answer for item in report.sites) else cells
