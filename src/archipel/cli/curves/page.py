"""Finished simulations as one HTML file: their curves over each other, what came out, what they were made with.

write(render({"points": result}), folder / "report.html")
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from archipel.cli import wording
from archipel.cli.curves.panels import panels_of
from archipel.cli.report import charts, html
from archipel.cli.report.screen import figure
from archipel.simulation.result import Result, differences

NOT_SCORED = "No round was scored: `every` in [evaluation] says each how many rounds the validation rows are."


def render(results: Mapping[str, Result]) -> str:
    """Return the page of one simulation, or of several side by side, by name."""
    panels = panels_of({name: result.history for name, result in results.items()})
    curves = [
        html.section(
            f"{panel.title} by round",
            charts.lines(panel.lines, title=f"{panel.title} by round", across="round", up=panel.up),
        )
        for panel in panels
    ]
    scored = any(record.figures for result in results.values() for record in result.history)
    parts = [
        _header(results),
        html.section(f"The final model{'s' if len(results) > 1 else ''}, on the test rows", _outcome(results)),
        *curves,
        "" if scored else html.section("Figures by round", html.note(NOT_SCORED)),
        *(html.section(f"Made with: {name}", _made(result)) for name, result in results.items()),
    ]
    return html.document(f"{', '.join(results)}: simulated", parts)


def _header(results: Mapping[str, Result]) -> str:
    last = max(results.values(), key=lambda result: result.finished_at)
    when = dt.datetime.fromtimestamp(last.finished_at, tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = [
        (wording.count(last.clients), "virtual clients"),
        (wording.count(last.rounds), "rounds"),
        (wording.count(last.examples), "examples trained on, with repeats"),
        (wording.duration(last.seconds), "in all"),
    ]
    if len(results) == 1:
        title = f"{last.job.name}: {wording.figures(last.test)}"
        return html.header(f"{last.job.name} · simulated {when}", title, facts)
    seeds = sorted({result.seed for result in results.values()})
    facts = [(str(len(results)), "simulations"), (", ".join(map(str, seeds)), "seed"), (last.data[:19] + "…", "data")]
    return html.header(f"simulated until {when}", ", ".join(results), facts)


def _outcome(results: Mapping[str, Result]) -> str:
    names = sorted({name for result in results.values() for name in result.test} - wording.COUNTS)
    rows = [
        (
            [
                f"{name}\n{differs_in_words(told)}",
                *(figure(result.test.get(key), 4) for key in names),
                str(result.rounds),
            ],
            "",
        )
        for (name, result), told in zip(
            results.items(), differences(tuple(one.job for one in results.values())), strict=True
        )
    ]
    counted = ", ".join(sorted({wording.count(int(one.test.get("examples", 0))) for one in results.values()}))
    return html.table(["", *names, "rounds"], rows) + html.note(f"On {counted} test rows, held out from training.")


def differs_in_words(differs: Mapping[str, object]) -> str:
    """Say what is not the same as in the others.

    >>> differs_in_words({"federation.rounds": 10, "federation.local.clip_norm": None})
    'federation.rounds = 10, federation.local.clip_norm = none'
    """
    return ", ".join(f"{key} = {'none' if value is None else value}" for key, value in differs.items())


def _made(result: Result) -> str:
    facts = {
        "weights": result.model_digest,
        "job": result.job_digest,
        "code": result.code,
        "data": result.data,
        "seed": str(result.seed),
        **({"privacy spent": str(result.privacy)} if result.privacy else {}),
        "computed by": f"{result.executor} ({result.executor_why}); processes: {result.processes}",
        "archipel": result.version,
    }
    return html.pairs(facts)
