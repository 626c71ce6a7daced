"""Words from elsewhere (a site, a job, a path) are shown as they are: none is read as markup, none breaks a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

from archipel.cli.commands import models, reading
from archipel.cli.planning import show_plan
from archipel.cli.report.screen import show_report
from archipel.cli.reporting import _show_way_on
from archipel.spec import Blob, Lineage, ModelVersion, Plan, ServedModel, SiteShare
from archipel.spec.views import Breakdown, ClassLine, SiteView
from unit.cli.test_cli_report import build, site

EVIL = "x[/a] [red]y[/] z\\"
"""A closing tag without its opening one, which rich refuses; a style; and an end that would escape what follows."""
DIGEST = "sha256:" + "ab" * 32


def show_refused(console: Console) -> None:
    share = SiteShare(site="north", rows=1, labels={EVIL: 1})
    sizes = {"rounds": 1, "cohort_size": 1, "model_bytes": 0, "down_bytes": 0, "up_bytes": 0}
    plan = Plan(job=DIGEST, participants=(share,), refused={"south": EVIL}, **sizes)
    show_plan(plan, "birds", console)


def show_status(console: Console) -> None:
    served = ServedModel(name="birds", version=1, copy="global", digest=DIGEST, url=f"http://{EVIL}")
    console.print(reading._sites((SiteView(name="a", presence="here", joined_at=0.0, serving=(served,)),)))


def show_figures(console: Console) -> None:
    lineage = Lineage(job=DIGEST, bundle=DIGEST, datasets={}, participation=())
    blob = Blob(digest=DIGEST, size_bytes=1)
    made = ModelVersion(name="birds", version=1, run="r", weights=blob, metrics={EVIL: 0.5}, lineage=lineage)
    console.print(models._table((made,)))


def show_measured(console: Console) -> None:
    show_report(build(site("north", 0.8, 0.9, 0.9, EVIL), metric=EVIL), console)


def show_asked(console: Console) -> None:
    report = build(site("north", 0.8, 0.9, 0.9))
    answered = tuple(structs.replace(item, answer=EVIL) for item in report.sites)
    line = ClassLine(name=EVIL, precision=1.0, recall=1.0, f1=1.0, support=1)
    told = Breakdown(what=EVIL, classes=(line,), averages=())
    show_report(structs.replace(report, sites=answered, question={EVIL: [EVIL]}, breakdowns=(told,)), console)


def show_way_on(console: Console) -> None:
    deployment = SimpleNamespace(question={"words": [EVIL]})
    local: Any = SimpleNamespace(job=SimpleNamespace(deployment=deployment))
    _show_way_on(build(site("north", 0.8, 0.9, 0.9)), Path(EVIL, "report.html"), "https://c:1", local, console)


@pytest.mark.parametrize("show", [show_refused, show_status, show_figures, show_measured, show_asked, show_way_on])
def test_words_from_elsewhere_are_shown_as_they_are(show: Callable[[Console], None]) -> None:
    console = Console(width=400, record=True)
    show(console)
    assert EVIL.removesuffix("\\") in console.export_text()
