"""The report: figures as they are, each site told whether joining paid, a page that needs nothing from outside."""

from __future__ import annotations

import html
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from archipel.cli.report import charts
from archipel.cli.report.build import TOO_SMALL, build_report, read_reference
from archipel.cli.report.page import render, write_page
from archipel.cli.report.screen import headline, show_report
from archipel.cli.report.values import WAYS, Comparison, Provenance, Report
from archipel.cli.reporting import write_report
from archipel.spec import TaskError, decode
from archipel.spec.views import Disclosure, Moved, RunReport, RunView, Scores, SiteReport
from archipel.tasks.metrics import is_lower_better

DIGEST = "sha256:" + "ab" * 32
MADE = Provenance(job=DIGEST, bundle=DIGEST, participation="2 sites", executor="loop", machine="a box", versions={})


def figures(value: float, metric: str = "accuracy", **more: float) -> dict[str, float]:
    return {metric: value, "log_loss": 0.1, **more}


def site(
    name: str,
    alone: float | None,
    federated: float | None,
    personalised: float | None,
    metric: str = "accuracy",
    **more: float,
):
    measured = {"alone": (0.5, alone), "federated": (0.9, federated), "personalised": (None, personalised)}
    scores = {
        way: Scores(
            everyone=None if everyone is None else figures(everyone, metric),
            own=figures(own, metric, **(more if way == "federated" else {})),
        )
        for way, (everyone, own) in measured.items()
        if own is not None
    }
    return SiteReport(name=name, rows=100, test_rows=30, labels={"a": 60, "b": 40}, scores=scores)


def run_report(*sites: SiteReport, metric: str = "accuracy") -> RunReport:
    run = RunView(
        id="birds-1", job="birds", job_digest=DIGEST, bundle=DIGEST, state="finished", submitted_at=0.0, model_version=2
    )
    overall = {"federated": Scores(everyone=figures(0.9, metric), own=figures(0.9, metric))}
    return RunReport(
        run=run,
        rounds=3,
        model_digest=DIGEST,
        sites=sites,
        overall=overall,
        seconds=5.0,
        seconds_by_phase={"train": 4.0},
        bytes_moved=30,
        moved=(Moved(site="x", phase="train", up_bytes=10, down_bytes=20),),
        disclosures=(
            Disclosure(site="x", phase="train", part="delta", times=3, total_bytes=10),
            Disclosure(site="x", phase="statistics", part="sums", times=1, total_bytes=4, names=("count", "sum")),
        ),
        losses=(1.0, None, 0.25),
    )


def build(*sites: SiteReport, metric: str = "accuracy", reference: dict[str, object] | None = None) -> Report:
    return build_report(
        run_report(*sites, metric=metric), reference, {"start": 2.0, "run: train": 4.0}, MADE, finished_at=0.0
    )


def four_ways(*sites: SiteReport) -> Report:
    report = build(*sites, reference=figures(0.9))
    return msgspec.structs.replace(report, overall=dict.fromkeys(WAYS, report.overall["pooled"]))


def test_the_report_adds_up_what_it_says() -> None:
    report = build(site("x", 0.8, 0.9, 0.95), reference={"accuracy": 0.91, "log_loss": 0.2})
    assert report.seconds == 6.0
    assert (report.bytes_moved, report.bytes_up, report.bytes_down) == (30, 10, 20)
    assert report.overall["pooled"] == Comparison(
        everyone={"accuracy": 0.91, "log_loss": 0.2}, own={"accuracy": 0.91, "log_loss": 0.2}
    )
    assert report.overall["alone"] == Comparison()
    assert report.model_version == 2
    assert [(item.round, item.loss) for item in report.losses] == [(1, 1.0), (3, 0.25)]


@pytest.mark.parametrize(
    ("alone", "federated", "personalised", "gain", "verdict"),
    [
        (0.80, 0.70, 0.83, 0.03, "gained"),
        (0.80, 0.85, 0.801, 0.001, "same"),
        (0.80, 0.85, 0.799, -0.001, "same"),
        (0.80, 0.85, 0.75, -0.05, "lost"),
        (0.80, 0.85, None, 0.05, "gained"),
        (None, 0.70, 0.75, None, "not measured"),
        (0.80, None, None, None, "not measured"),
    ],
)
def test_a_site_is_told_whether_joining_paid_by_the_model_that_it_serves(
    alone: float | None, federated: float | None, personalised: float | None, gain: float | None, verdict: str
) -> None:
    (judged,) = build(site("x", alone, federated, personalised)).sites
    assert judged.verdict == verdict
    assert judged.gain == (None if gain is None else pytest.approx(gain))


@pytest.mark.parametrize(
    ("alone", "personalised", "gain", "verdict"),
    [
        (25.0, 16.0, 9.0, "gained"),
        (16.0, 25.0, -9.0, "lost"),
        (25.0, 25.04, -0.04, "same"),
        (1e-3, 5e-4, 5e-4, "gained"),
    ],
)
def test_less_of_an_error_is_a_gain(alone: float, personalised: float, gain: float, verdict: str) -> None:
    report = build(site("x", alone, 20.0, personalised, "squared_error"), metric="squared_error")
    assert report.metric == "squared_error"
    assert report.sites[0].verdict == verdict
    assert report.sites[0].gain == pytest.approx(gain)
    assert "squared_error: lower is better" in render(report)


@pytest.mark.parametrize("metric", ["squared_error", "log_loss", "rmse", "top_rmse", "loss"])
def test_a_figure_that_is_better_when_lower_is_told_by_its_last_word(metric: str) -> None:
    assert is_lower_better(metric)


@pytest.mark.parametrize("metric", ["accuracy", "auc", "entity_f1", "loss_avoided"])
def test_other_figures_are_better_when_higher(metric: str) -> None:
    assert not is_lower_better(metric)


@pytest.mark.parametrize(("smallest", "small"), [(49, True), (50, False)])
def test_a_site_with_under_fifty_test_rows_in_a_class_is_too_small_to_tell_by_auc(
    smallest: int, *, small: bool
) -> None:
    report = build(site("x", 0.6, 0.7, 0.7, "auc", smallest_class=smallest), metric="auc")
    assert report.metric == "auc"
    assert (report.sites[0].verdict == TOO_SMALL) is small
    assert report.small_sites == (("x",) if small else ())


def test_a_site_whose_auc_cannot_be_computed_is_too_small_to_tell() -> None:
    own = SiteReport(
        name="x", rows=9, test_rows=3, scores={"federated": Scores(own={"accuracy": 1.0, "smallest_class": 0.0})}
    )
    report = build(own, metric="auc")
    assert report.sites[0].verdict == TOO_SMALL


def test_what_a_site_disclosed_is_listed_in_words_with_the_names_of_sums() -> None:
    (judged,) = build(site("x", 0.8, 0.9, 0.9)).sites
    assert [(item.kind, item.times, item.size_bytes) for item in judged.disclosed] == [
        ("train delta", 3, 10),
        ("statistics sums", 1, 4),
    ]
    assert judged.disclosed[1].what == "sums and counts over rows: count, sum"


def test_the_reference_may_give_both_views_and_its_sites() -> None:
    both = {"everyone": figures(0.9), "own": figures(0.8), "sites": {"x": {"own": figures(0.7)}}}
    report = build(site("x", 0.8, 0.9, 0.9), reference=both)
    assert report.overall["pooled"].own["accuracy"] == 0.8
    assert report.sites[0].scores["pooled"].own["accuracy"] == 0.7


def test_a_reference_without_figures_is_refused() -> None:
    with pytest.raises(TaskError, match="no figure"):
        read_reference({"note": "none"})


def test_report_json_reads_back_as_it_was_and_has_what_the_readme_promises(tmp_path: Path) -> None:
    report = build(site("x", 0.8, 0.9, 0.95), reference={"accuracy": 0.91, "log_loss": 0.2})
    page = write_report(report, tmp_path)
    raw = (tmp_path / "report.json").read_bytes()
    assert decode(raw, Report) == report
    document = msgspec.json.decode(raw)
    assert {"sites", "overall", "seconds", "bytes_moved", "model_digest"} <= set(document)
    assert set(document["overall"]) == {"alone", "federated", "personalised", "pooled"}
    assert all(set(found) == {"everyone", "own"} for found in document["overall"].values())
    assert {"name", "rows", "scores"} <= set(document["sites"][0])
    assert page.read_text().startswith("<!doctype html>")


def test_the_page_needs_nothing_from_outside_and_runs_nothing() -> None:
    page = render(build(site("x", 0.8, 0.9, 0.95)))
    assert "<script" not in page
    addresses = set(re.findall(r"https?://[^\"' <]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert re.findall(r"(?:src|href)=", page) == []


def test_the_page_shows_names_as_text_whatever_they_are(tmp_path: Path) -> None:
    report = build(site("x", 0.8, 0.9, 0.95))
    evil = msgspec.structs.replace(report.sites[0], answer="<img src=x onerror=alert(1)>")
    asked = {"bill": ["<img src=y>"]}
    write_page(msgspec.structs.replace(report, sites=(evil,), question=asked), tmp_path / "report.html")
    assert "<img" not in (tmp_path / "report.html").read_text()


def test_the_screen_leaves_out_columns_that_nothing_was_measured_for() -> None:
    console = Console(width=120, record=True)
    show_report(build(site("north", None, 0.9, None)), console)
    said = console.export_text()
    sites = said[said.index("The sites") : said.index("rounds;")]
    assert "0.900" in sites
    for word in ("alised", "joining", "not measured", "—"):
        assert word not in sites


def test_the_screen_shows_every_way_and_site() -> None:
    console = Console(width=140, record=True)
    show_report(four_ways(site("north", 0.8, 0.9, 0.95), site("south", 0.9, 0.7, 0.7)), console)
    text = console.export_text()
    for words in ("each site alone", "federated", "pooled, the reference", "north", "gained +0.150", "lost -0.200"):
        assert words in text


def test_only_the_ways_that_were_computed_are_compared_and_the_others_settings_are_said_once() -> None:
    sparse, full = build(site("x", None, 0.9, None)), four_ways(site("x", 0.8, 0.9, 0.95))
    for report, heading, said in ((sparse, "The model, on held-out rows", 1), (full, "Four ways to a model", 0)):
        console = Console(width=400, record=True)
        show_report(report, console)
        for words in (console.export_text(), html.unescape(render(report))):
            assert heading in words
            assert words.count("each site alone: `alone = true`") == said
            assert words.count("pooled in one place (reference): `reference`") == said
    page = render(sparse)
    assert "not measured" not in page
    assert "—" not in page
    assert "personalised</td>" not in page
    assert "Pooled" not in page


def test_too_small_to_tell_comes_with_its_rule() -> None:
    small = build(site("x", 0.6, 0.7, 0.7, "auc", smallest_class=49), metric="auc")
    large = build(site("x", 0.6, 0.7, 0.7, "auc", smallest_class=50), metric="auc")
    for report, said in ((small, 1), (large, 0)):
        console = Console(width=200, record=True)
        show_report(report, console)
        for words in (console.export_text(), render(report)):
            assert words.count("fewer than 50 held-out rows of one class") == said


def test_the_page_gives_each_answer_a_line_of_its_own() -> None:
    report = msgspec.structs.replace(build(site("x", 0.8, 0.9, 0.95)), question={"bill": [47.5]})
    answered = msgspec.structs.replace(report.sites[0], answer="Gentoo; probabilities Gentoo 0.999")
    page = render(msgspec.structs.replace(report, sites=(answered,)))
    assert "<dt>x</dt><dd>Gentoo; probabilities Gentoo 0.999</dd>" in page
    assert "bill = 47.5" in page


def test_the_headline_leaves_out_what_was_not_measured() -> None:
    assert headline(build(site("x", 0.8, 0.9, 0.9))) == "1 sites together: accuracy 0.900 on everyone's rows"


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_a_line_stays_inside_its_picture(values: list[float]) -> None:
    picture = charts.lines({"a": list(enumerate(values, start=1))}, title="t", across="x", up="y")
    points = re.search(r'points="([^"]*)"', picture)[1]
    for pair in points.split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 640
        assert 0 <= y <= 230


@given(st.floats(0, 1), st.floats(0, 0.9))
def test_a_bar_is_as_long_as_its_value_above_the_floor(value: float, floor: float) -> None:
    picture = charts.bars([("a", {"own": value})], title="t", floor=floor)
    width = float(re.search(r'class="bar own" [^>]*?width="([\d.]+)"', picture)[1])
    assert width == pytest.approx(max((value - floor) / (1 - floor), 0) * 390, abs=0.06)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8))
def test_bars_of_any_size_stay_inside_their_tracks(values: list[float]) -> None:
    picture = charts.bars([("a", dict(zip("abcdefgh", values, strict=False)))], title="t")
    widths = [float(width) for width in re.findall(r'class="bar \w+" [^>]*?width="([\d.]+)"', picture)]
    assert len(widths) == len(values)
    assert max(widths) == pytest.approx(390 * min(max(values), 1.0), abs=0.06)


def test_a_site_that_took_no_part_is_listed_with_the_reason() -> None:
    away = SiteReport(name="x", rows=0, test_rows=0, scores={"federated": Scores(everyone=figures(0.9))})
    report = build_report(
        run_report(away), None, {"start": 1.0}, MADE, finished_at=0.0, refusals={"x": "DataError: 0 rows [of] 4"}
    )
    assert report.sites[0].verdict == "took no part"
    console = Console(width=100, record=True)
    show_report(report, console)
    assert "x took no part: DataError: 0 rows [of] 4" in console.export_text()
    assert "took no part: DataError: 0 rows [of] 4" in render(report)
