"""Watching a run: one plain line a change where nobody looks at a terminal, and a gap of control is survived."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from archipel.cli import watching, wording
from archipel.cli.watching import describe, draw, watch
from archipel.spec import LinkError
from archipel.spec.views import RunProgress, RunState, RunView, SiteProgress
from archipel.spec.wire import Waits

DIGEST = "sha256:" + "ab" * 32


def progress(seq: int, state: RunState = "running", **fields: object) -> RunProgress:
    run = RunView(id="r1", job="birds", job_digest=DIGEST, bundle=DIGEST, state=state, submitted_at=0.0)
    return RunProgress(seq=seq, run=run, **fields)


class Control:
    """Answers `progress` from a list; an exception in it is raised."""

    def __init__(self, answers: list[RunProgress | Exception]) -> None:
        self.answers = answers
        self.asked: list[int | None] = []

    def progress(self, _run: str, after: int | None = None) -> RunProgress:
        self.asked.append(after)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def watched(control: Control) -> str:
    out = io.StringIO()
    watch(control, "r1", Console(file=out, width=100))
    return out.getvalue()


def test_each_phase_and_each_closed_round_is_one_line_and_the_end_is_said() -> None:
    control = Control(
        [
            progress(1, kind="check"),
            progress(2, kind="train", step=1, steps=2),
            progress(3, kind="train", step=1, steps=2),
            progress(4, kind="train", step=2, steps=2, losses=(0.5,)),
            progress(5, "finished", step=2, steps=2, losses=(0.5, 0.25)),
        ]
    )
    assert watched(control).splitlines() == [
        "checking the data: 0 sites",
        "training together: 0 sites  0 B moved",
        "round 1 of 2  loss 0.5000  0 B moved",
        "round 2 of 2  loss 0.2500  0 B moved",
        "r1: finished  0 B moved",
    ]
    assert control.asked == [None, 1, 2, 3, 4]


def test_rounds_that_closed_between_two_looks_are_said_and_one_without_a_loss_too() -> None:
    control = Control(
        [
            progress(1, kind="train", step=1, steps=4),
            progress(2, kind="train", step=4, steps=4, losses=(0.5, None, 0.25)),
            progress(3, kind="evaluate", step=4, steps=4, losses=(0.5, None, 0.25, 0.125)),
            progress(4, "finished", step=4, steps=4, losses=(0.5, None, 0.25, 0.125)),
        ]
    )
    assert [line.removesuffix("  0 B moved") for line in watched(control).splitlines()] == [
        "training together: 0 sites",
        "round 1 of 4  loss 0.5000",
        "round 2 of 4",
        "round 3 of 4  loss 0.2500",
        "round 4 of 4  loss 0.1250",
        "scoring on held-out rows: 0 sites",
        "r1: finished",
    ]


def test_a_control_plane_that_restarts_is_asked_again_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN_SECONDS", 0.0)
    control = Control([progress(1, kind="check"), LinkError("gone"), LinkError("gone"), progress(1, "finished")])
    assert watched(control).endswith("r1: finished\n")
    assert control.asked == [None, 1, None, None]


def test_a_control_plane_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LONGEST_GAP_SECONDS", -1.0)
    with pytest.raises(LinkError):
        watched(Control([LinkError("gone")]))


def test_one_poll_that_took_long_and_failed_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))

    class Slow(Control):
        def progress(self, run: str, after: int | None = None) -> RunProgress:
            now[0] += 2 * watching._LONGEST_GAP_SECONDS
            return super().progress(run, after)

    slow = Slow([progress(1, kind="check"), LinkError("timed out"), progress(1, "finished")])
    assert watched(slow).endswith("r1: finished\n")
    with pytest.raises(LinkError):
        watched(Slow([LinkError("timed out"), LinkError("timed out"), progress(1, "finished")]))


def test_a_waiting_run_says_why() -> None:
    waiting = progress(1, "waiting")
    assert describe(waiting) == "r1: waiting"


@pytest.mark.parametrize(
    ("waits", "words"), [("approval", "approval by its own people"), ("hours", "its hours"), ("policy", "is mended")]
)
def test_a_site_that_waits_by_its_own_policy_is_named_with_what_it_waits_for(waits: Waits, words: str) -> None:
    sites = (
        SiteProgress(site="north", presence="here", status="done", done=1.0),
        SiteProgress(site="south", presence="here", status="working", waits=waits),
    )
    waiting = progress(1, kind="check", sites=sites)
    assert describe(waiting).startswith("checking the data: 2 sites; south waits ")
    assert describe(waiting).endswith(words)
    console = Console(width=120, record=True, force_terminal=True)
    console.print(draw(waiting))
    assert f"south {wording.standstill(waits)}" in console.export_text()


def test_the_live_picture_shows_sites_loss_and_bytes() -> None:
    sites = (
        SiteProgress(site="north", presence="here", status="done", done=1.0),
        SiteProgress(site="south", presence="lost", status="working", done=0.5),
    )
    console = Console(width=120, record=True, force_terminal=True)
    console.print(
        draw(progress(1, kind="train", step=3, steps=9, losses=(1.0, 0.5, 0.25, None), sites=sites, up_bytes=2000))
    )
    text = console.export_text()
    for words in ("round 3/9", "loss 0.2500", "north", "south (lost)", "1 of 2 sites answered", "↑ 2 kB", "█"):
        assert words in text


def test_the_live_picture_is_drawn_for_every_state_of_a_run() -> None:
    for state in ("waiting", "running", "paused", "stopped", "failed", "finished"):
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(draw(progress(1, state)))
        assert state in console.export_text()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (999_999_999, "1 GB"),
        (1_234_567, "1.23 MB"),
        (2e13, "20 TB"),
    ],
)
def test_sizes_in_words(number: float, words: str) -> None:
    assert wording.size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (83.2, "1 min 23 s"), (7260, "2 h 1 min")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words
