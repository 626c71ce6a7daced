"""What a job's own function prints is shown, but no flood of it."""

from __future__ import annotations

from pathlib import Path

from archipel.cli.preparing import last_lines


def test_only_what_was_said_since_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "prepare.log"
    log.write_bytes("früher\n".encode() + b"reef: 3 \xff\nlagoon: 4\n")
    assert last_lines(log, len("früher\n".encode())) == ["reef: 3 \ufffd", "lagoon: 4"]


def test_of_a_flood_the_end_is_shown_and_where_the_rest_is(tmp_path: Path) -> None:
    log = tmp_path / "prepare.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    first, *rest = last_lines(log, 0)
    assert first == f"… (60 lines before these are in {log})"
    assert (len(rest), rest[0], rest[-1]) == (40, "line 60", "line 99")
