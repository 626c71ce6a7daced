"""A run that failed: its last word says where the log is that its hint speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.cli.local import failure_of
from archipel.spec.views import RunView

DIGEST = "sha256:" + "ab" * 32
LOGS = Path("/fleet/logs")


def run(message: str, hint: str) -> RunView:
    return RunView(
        id="r1", job="birds", job_digest=DIGEST, bundle=DIGEST, state="failed", sites=("north", "south"),
        submitted_at=0.0, message=message, hint=hint,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "logs", "place"),
    [
        ("train: south refused: TaskError: x", LOGS, "the site's log (/fleet/logs/south.log) says where"),
        ("nobody is left", LOGS, "the site's log (/fleet/logs/SITE.log) says where"),
        ("train: south refused: TaskError: x", None, "the site's log (there: in logs/ of the site's folder, or"),
    ],
)
def test_the_sites_log_is_named_with_its_place(message: str, logs: Path | None, place: str) -> None:
    assert place in failure_of(run(message, "the site's log says where"), logs).hint


def test_a_hint_without_a_log_stays_as_it_is_and_a_run_without_one_gets_one() -> None:
    assert failure_of(run("x", "mend the file"), LOGS).hint == "mend the file"
    assert "archipel resume r1" in failure_of(run("x", "")).hint
