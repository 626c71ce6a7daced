"""Turns: never more holders than turns, nobody waits for ever, and a killed holder's turn is free again."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from archipel.site.worker.turns import TURNS, Turns, turns_of_a_machine
from archipel.spec import SpecError

HOLD = """
import sys
from pathlib import Path
from archipel.site.worker.turns import Turns

with Turns(Path(sys.argv[1]), 1).take(lambda: False):
    print("held", flush=True)
    input()
"""


def never() -> bool:
    return False


def test_without_a_folder_everybodys_turn_is_now() -> None:
    with Turns.of({}).take(never) as one, Turns.of({}).take(never) as other:
        assert one
        assert other


def test_never_more_than_its_number_hold_turns_and_all_get_theirs(tmp_path: Path) -> None:
    at_work, most, done = 0, 0, 0
    guard = threading.Lock()
    full = threading.Barrier(2)

    def work() -> None:
        nonlocal at_work, most, done
        with Turns(tmp_path / "turns", 2).take(never) as mine:
            assert mine
            with guard:
                at_work += 1
                most = max(most, at_work)
            full.wait(timeout=60)  # two of the six at a time, or nobody would pass
            with guard:
                at_work -= 1
                done += 1

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert (most, done) == (2, 6)


def test_who_is_not_wanted_any_more_stops_waiting_and_holds_nothing(tmp_path: Path) -> None:
    turns = Turns(tmp_path, 1)
    asked = iter([False, False, True])
    with turns.take(never), turns.take(lambda: next(asked)) as mine:
        assert not mine
    with turns.take(lambda: pytest.fail("the turn is free")) as mine:
        assert mine


def test_the_turn_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with Turns(tmp_path, 1).take(lambda: True) as mine:
            assert not mine
        holder.kill()
        holder.wait()
        with Turns(tmp_path, 1).take(lambda: True) as mine:
            assert mine


def test_a_machine_has_a_turn_a_core_and_two_at_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, count in ((1, 2), (2, 2), (16, 16)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert turns_of_a_machine(tmp_path) == f"{tmp_path}:{count}"
        assert len(Turns.of({TURNS: turns_of_a_machine(tmp_path)})._files) == count


@pytest.mark.parametrize("given", ["", "/folder", "/folder:", "/folder:0", "/folder:two", ":2"])
def test_what_names_no_turns_is_refused(given: str) -> None:
    with pytest.raises(SpecError, match="FOLDER:COUNT"):
        Turns.of({TURNS: given})
