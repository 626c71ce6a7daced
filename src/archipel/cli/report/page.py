"""The report as one HTML file: its own style and pictures inside, no script, no address outside, light and dark."""

from __future__ import annotations

import datetime as dt
from html import escape
from pathlib import Path

from archipel.cli import wording
from archipel.cli.planning import secure_lines
from archipel.cli.report import charts, html
from archipel.cli.report.breakdown import HEADINGS
from archipel.cli.report.breakdown import rows as rows_of
from archipel.cli.report.html import note, section, table
from archipel.cli.report.screen import (
    METRIC_WORDS,
    NOTHING,
    VERDICT_STYLES,
    WAY_WORDS,
    figure,
    headline,
    measured_ways,
    not_computed,
    rule_of_small_sites,
    ways_title,
)
from archipel.cli.report.values import WAYS, Comparison, Report, SiteReport
from archipel.tasks.metrics import is_lower_better

MOVED_AND_DISCLOSED = (
    "Disclosed: all that control was given to know, in full size. Moved: the files that were carried, {up} of them "
    "from sites to control. They differ where control held the same file already (it is disclosed again, not carried "
    "again) and by the manifests, which go in messages and are not counted as moved."
)
"""The two measures of what left a site, told apart where both stand on one page."""


def write_page(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    html.write(render(report), path)


def render(report: Report) -> str:
    """Return the page."""
    when = dt.datetime.fromtimestamp(report.finished_at, tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = (
        _header(report, when),
        section(ways_title(report), _comparison(report)),
        section("Training loss", _loss(report)),
        section("Class by class", _breakdowns(report)),
        section("The sites", _sites(report)),
        section("What the sites answer", _answers(report)),
        section("What each site disclosed", _disclosures(report)),
        section("Where the time went", _phases(report)),
        section("Planned, and came", _grades(report)),
        section("Made with", _provenance(report)),
    )
    return html.document(f"{report.job}: report of run {report.run}", parts)


def _header(report: Report, when: str) -> str:
    facts = [
        (f"{len(report.sites)}", "sites"),
        (wording.count(sum(site.rows for site in report.sites)), "rows, none of which left its site"),
        (str(report.rounds), "training rounds"),
        (wording.size(report.bytes_moved), "moved, both ways"),
        (wording.duration(report.seconds), "from command to report"),
    ]
    return html.header(f"{report.job} · run {report.run} · {when}", headline(report), facts)


def _comparison(report: Report) -> str:
    metric = METRIC_WORDS.get(report.metric, report.metric)
    rows, groups = [], []
    for way in measured_ways(report):
        found = report.overall[way]
        cells = [figure(view.get(key)) for view in (found.everyone, found.own) for key in (report.metric, "log_loss")]
        rows.append(([WAY_WORDS[way], *cells], "lead" if way == "federated" else ""))
        groups.append(
            (way, {"everyone": found.everyone.get(report.metric), "own": found.own.get(report.metric)}),
        )
    measured = [value for _, values in groups for value in values.values() if value is not None]
    floor = 0.5 if report.metric == "auc" and all(value >= 0.5 for value in measured) else 0.0
    head = ["", f"{metric}, everyone's rows", "log-loss", f"{metric}, own rows", "log-loss"]
    legend = (
        '<p class="legend"><i class="everyone"></i> everyone\'s rows: a site\'s model on all sites\' test rows, '
        'averaged over the sites by their rows <i class="own"></i> own rows: '
        "each test row scored by its own site's model</p>"
    )
    notes = ["Log-loss in nats a row; lower is better."]
    if report.overall.get("pooled", Comparison()) != Comparison():
        notes.append(
            "“Pooled” is computed by a separate process from the public data; in real life no one may have it."
        )
    if is_lower_better(report.metric):
        notes.append(f"{metric}: lower is better.")
    words = note(" ".join(notes)) + note(not_computed(report))
    return charts.bars(groups, title=f"{metric} by way", floor=floor) + legend + table(head, rows) + words


def _loss(report: Report) -> str:
    series = {"training loss": [(item.round, item.loss) for item in report.losses]}
    return charts.lines(series, title="Training loss by round", across="training round", up="mean loss an example")


def _breakdowns(report: Report) -> str:
    tables = [
        table(
            [breakdown.what, *HEADINGS],
            [(cells or ("",) * (1 + len(HEADINGS)), "") for cells in rows_of(breakdown)],
        )
        for breakdown in report.breakdowns
    ]
    return "\n".join([*tables, note("The federated model on everyone's test rows.")]) if tables else ""


def _sites(report: Report) -> str:
    metric = METRIC_WORDS.get(report.metric, report.metric)
    head = ["site", "rows", "test rows", *WAYS, "alone, on everyone's", "joining"]
    rows = [_site(site, report) for site in report.sites]
    shown = [place for place in range(len(head)) if any(row[place] not in NOTHING for row in rows)]
    kinds = [site.verdict if site.verdict in VERDICT_STYLES else "" for site in report.sites]
    shown_rows = table(
        [head[place] for place in shown],
        [([row[place] for place in shown], kind) for row, kind in zip(rows, kinds, strict=True)],
    )
    absent = "".join(
        f'<p class="note"><b>{escape(site.name)}</b> took no part: {escape(site.absent)}</p>'
        for site in report.sites
        if site.absent
    )
    words = note(f"{metric} on each site's own test rows. {_whom(report)}")
    return shown_rows + absent + words + note(rule_of_small_sites(report))


def _site(site: SiteReport, report: Report) -> list[str]:
    own = [figure(site.scores.get(way, Comparison()).own.get(report.metric)) for way in WAYS]
    away = figure(site.scores.get("alone", Comparison()).everyone.get(report.metric))
    gain = "" if site.gain is None else f" {site.gain:+.3f}"
    counts = [wording.count(site.rows), wording.count(site.test_rows)]
    return [_name(site), *counts, *own, away, f"{site.verdict}{gain}"]


def _answers(report: Report) -> str:
    if not report.question:
        return ""
    inputs = ", ".join(f"{name} = {values[0]}" for name, values in report.question.items() if values)
    answers = {site.name: site.answer or "not asked" for site in report.sites}
    return html.pairs(answers) + note(f"Every site's endpoint was asked the same question: {inputs}.")


def _name(site: SiteReport) -> str:
    labels = ", ".join(f"{label} {wording.count(rows)}" for label, rows in site.labels.items())
    aside = "; ".join(part for part in (labels, f"{site.quarantined} set aside" if site.quarantined else "") if part)
    return f"{site.name}\n{aside}" if aside else site.name


def _whom(report: Report) -> str:
    def named(verdict: str) -> list[str]:
        return [site.name for site in report.sites if site.verdict == verdict]

    parts = [
        f"{words}: {', '.join(names)}."
        for words, names in (
            ("Joining paid for", named("gained")),
            ("It made no difference for", named("same")),
            ("It did not pay for", named("lost")),
            ("Too small to tell", list(report.small_sites)),
        )
        if names
    ]
    return " ".join(parts)


def _disclosures(report: Report) -> str:
    kinds: dict[str, list[tuple[str, int, int, str]]] = {}
    for site in report.sites:
        for item in site.disclosed:
            kinds.setdefault(item.kind, []).append((site.name, item.times, item.size_bytes, item.what))
    rows = []
    for kind, items in kinds.items():
        total = sum(size for _, _, size, _ in items)
        times = sorted({count for _, count, _, _ in items})
        often = f"{times[0]}" if len(times) == 1 else f"{times[0]} to {times[-1]}"
        cells = [f"{kind}\n{items[0][3]}", f"{len(items)} of {len(report.sites)}", often, wording.size(total)]
        rows.append((cells, ""))
    if not rows:
        return ""
    per_site = ", ".join(
        f"{site.name} {wording.size(sum(item.size_bytes for item in site.disclosed))}" for site in report.sites
    )
    together = wording.size(sum(item.size_bytes for site in report.sites for item in site.disclosed))
    words = f"No row is among them. In all: {per_site}; together {together}."
    up = wording.size(report.bytes_up)
    shown = table(["what", "sites", "times a site", "disclosed, all sites"], rows)
    secret = "" if report.secure is None else note(". ".join(secure_lines(report.secure)) + ".")
    return shown + secret + note(words) + note(MOVED_AND_DISCLOSED.format(up=up))


def _phases(report: Report) -> str:
    total = report.seconds or 1.0
    rows = []
    for name, seconds in report.phases.items():
        cells = [name, wording.duration(seconds), wording.share(seconds / total)]
        rows.append((cells, ""))
    down, up = wording.size(report.bytes_down), wording.size(report.bytes_up)
    moved = f"{down} from control to sites, {up} from sites to control"
    return table(["phase", "wall time", "share"], rows) + note(f"Moved: {moved}.")


def _grades(report: Report) -> str:
    rows = []
    for grade in report.grades:
        off = f"{grade.off:+.0%}" if grade.off else "as planned"
        rows.append(([grade.what, *wording.forecast(grade), off], ""))
    return table(["forecast", "planned", "came", "outside by"], rows) if rows else ""


def _provenance(report: Report) -> str:
    made = report.provenance
    facts = {
        "model": f"{report.model_name}, version {report.model_version}",
        "weights": report.model_digest,
        "job": made.job,
        "code": made.bundle,
        "participation": made.participation,
        **({} if report.privacy is None else {"privacy spent": str(report.privacy)}),
        "machine": made.machine,
        "versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
    }
    return html.pairs(facts)
