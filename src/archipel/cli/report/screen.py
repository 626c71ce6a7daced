"""The report on the terminal: the comparison, the sites, what it took; the last thing a run says."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli import wording
from archipel.cli.report.breakdown import layout
from archipel.cli.report.build import SMALLEST_CLASS, TOO_SMALL
from archipel.cli.report.values import WAYS, Comparison, Report, SiteReport
from archipel.spec import Grade

WAY_WORDS = {
    "alone": "each site alone",
    "federated": "federated",
    "personalised": "federated, then personalised",
    "pooled": "pooled in one place (reference)",
}
SHORT_WORDS = {
    "alone": "each site alone",
    "federated": "federated",
    "personalised": "then personalised",
    "pooled": "pooled, the reference",
}
_COMPUTED_BY = {
    "alone": "`alone = true`",
    "personalised": "`personalise_epochs`",
    "pooled": "`reference`, in a run with local sites",
}
"""Way → the key of [evaluation] that computes it; what is federated always is."""
_NUMBERS = ("", "", "Two ways", "Three ways", "Four ways")
VERDICT_STYLES = {"gained": "green", "lost": "red", "same": "dim"}
_COLUMNS = ("site", "rows", "alone*", "alone", "feder-\nated", "person-\nalised", "pooled", "joining", "disclosed")
NOTHING = ("—", "not measured", "[dim]not measured[/]")
"""A column that holds nothing else is left out: the job did not ask for it."""
METRIC_WORDS = {"accuracy": "accuracy", "auc": "AUC", "entity_f1": "entity F1"}


def show_report(report: Report, console: Console) -> None:
    """Print the report."""
    console.print()
    console.print(f"[bold]{escape(headline(report))}[/]", highlight=False)
    console.print(_comparison(report))
    _show_note(not_computed(report), console)
    console.print(_sites(report))
    _show_note(rule_of_small_sites(report), console)
    for site in report.sites:
        if site.absent:
            console.print(
                f"[yellow]{site.name} took no part:[/] {escape(site.absent)}", highlight=False, soft_wrap=True
            )
    for breakdown in report.breakdowns:
        console.print(
            f"\n[cyan]The federated model on everyone's test rows: {escape(breakdown.what)}[/]\n", highlight=False
        )
        console.print(layout(breakdown), highlight=False, markup=False, soft_wrap=True)
    _show_answers(report, console)
    console.print()
    moved = f"↓ {wording.size(report.bytes_down)}, ↑ {wording.size(report.bytes_up)}"
    console.print(
        f"{report.rounds} rounds; {wording.size(report.bytes_moved)} moved ({moved}); "
        f"{wording.duration(report.seconds)} in all: {phase_line(report)}",
        highlight=False,
    )
    if report.grades:
        console.print(f"planned, and came: {'; '.join(map(graded, worst(report.grades)))}", highlight=False)
    if report.privacy is not None:
        console.print(f"privacy spent: {report.privacy}", highlight=False, markup=False, soft_wrap=True)
    named = f"model {report.model_name} version {report.model_version}, weights {report.model_digest}"
    console.print(named, highlight=False, soft_wrap=True)


def _show_answers(report: Report, console: Console) -> None:
    if not report.question:
        return
    asked = ", ".join(f"{name} {values[0]}" for name, values in report.question.items() if values)
    console.print(f"\n[cyan]Each site was asked:[/] {escape(asked)}", highlight=False)
    for site in report.sites:
        console.print(f"  {site.name}: {site.answer or 'not asked'}", highlight=False, markup=False, soft_wrap=True)


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


def measured_ways(report: Report) -> tuple[str, ...]:
    """Return the ways to a model that this run computed."""
    return tuple(way for way in WAYS if report.overall.get(way, Comparison()) != Comparison())


def ways_title(report: Report) -> str:
    """Return the heading over the ways."""
    count = len(measured_ways(report))
    return f"{_NUMBERS[count]} to a model, on the same held-out rows" if count > 1 else "The model, on held-out rows"


def not_computed(report: Report) -> str:
    """Say which ways the job did not ask for, and what asks for them; empty where there are none."""
    missing = [way for way in _COMPUTED_BY if way not in measured_ways(report)]
    if not missing:
        return ""
    parts = "; ".join(f"{WAY_WORDS[way]}: {_COMPUTED_BY[way]}" for way in missing)
    return f"Not computed here, but by these keys of the job's [evaluation]: {parts}."


def rule_of_small_sites(report: Report) -> str:
    """Say when a site is too small to tell; empty where none is."""
    if not report.small_sites:
        return ""
    return f"{TOO_SMALL}: fewer than {SMALLEST_CLASS} held-out rows of one class, on which an AUC says too little"


def phase_line(report: Report) -> str:
    """Return the phases that took longest, in words."""
    longest = sorted(report.phases.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{name} {wording.duration(seconds)}" for name, seconds in longest)


def worst(grades: tuple[Grade, ...]) -> tuple[Grade, ...]:
    """Return the grades, of sites' rounds only the one that was furthest off."""
    rounds = [grade for grade in grades if grade.what.startswith("a round at ")]
    shown = max(rounds, key=lambda grade: (abs(grade.off), grade.came), default=None)
    return tuple(grade for grade in grades if grade not in rounds or grade is shown)


def graded(grade: Grade) -> str:
    """Say what was planned and what came, in a few words."""
    planned, came = wording.forecast(grade)
    return f"{grade.what} {planned}, {came}"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure, or a dash where it was not measured."""
    return "—" if value is None else f"{value:.{digits}f}"


def _comparison(report: Report) -> Table:
    metric = escape(METRIC_WORDS.get(report.metric, report.metric))
    table = _plain(title=ways_title(report))
    table.add_column("")
    for view in ("everyone's rows", "own rows"):
        table.add_column(f"{metric},\n{view}", justify="right")
        table.add_column("log-loss,\nnats a row", justify="right", style="dim")
    for way in measured_ways(report):
        found = report.overall[way]
        cells = [
            figure(values.get(key)) for values in (found.everyone, found.own) for key in (report.metric, "log_loss")
        ]
        table.add_row(SHORT_WORDS[way], *cells, style="bold" if way == "federated" else None)
    return table


def _sites(report: Report) -> Table:
    metric = escape(METRIC_WORDS.get(report.metric, report.metric))
    table = _plain(title=f"The sites: {metric} on each one's own test rows (alone*: on everyone's)")
    rows = [_site(site, report) for site in report.sites]
    shown = [place for place in range(len(_COLUMNS)) if any(row[place] not in NOTHING for row in rows)]
    for name in (_COLUMNS[place] for place in shown):
        table.add_column(name, justify="left" if name in {"site", "joining"} else "right", no_wrap=name == "site")
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    return table


def _show_note(words: str, console: Console) -> None:
    if words:
        console.print(words, style="dim", highlight=False, markup=False)


def _plain(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="cyan", box=None, pad_edge=False)


def _site(site: SiteReport, report: Report) -> list[str]:
    own = [figure(site.scores.get(way, Comparison()).own.get(report.metric)) for way in WAYS]
    away = figure(site.scores.get("alone", Comparison()).everyone.get(report.metric))
    style = VERDICT_STYLES.get(site.verdict, "dim")
    gain = "" if site.gain is None else f" {site.gain:+.3f}"
    disclosed = wording.size(sum(item.size_bytes for item in site.disclosed))
    return [site.name, wording.count(site.rows), away, *own, f"[{style}]{site.verdict}{gain}[/]", disclosed]
