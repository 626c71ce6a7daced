"""Room ahead of a large file: asked for in steps, no part of its length, and nobody's trouble where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.stores.files import Draft
from archipel.data.stores.room import AHEAD_BYTES, Room
from archipel.data.stores.spool import Spool
from archipel.spec import Blob, digest_of

LARGE = AHEAD_BYTES + 3


class Disk:
    """Notes what is asked for; has room for `steps` of it."""

    def __init__(self, steps: int = 99) -> None:
        self.asked: list[tuple[int, int]] = []
        self._steps = steps

    def allocate(self, descriptor: int, mode: int, offset: int, length: int) -> int:
        assert (descriptor, mode) == (7, 1)
        self.asked.append((offset, length))
        return 0 if len(self.asked) <= self._steps else -1


def test_room_is_asked_for_step_by_step_and_not_beyond_the_end() -> None:
    disk = Disk()
    room = Room(7, 2 * AHEAD_BYTES + 5, disk.allocate)
    for offset in (1, AHEAD_BYTES, AHEAD_BYTES + 1, 2 * AHEAD_BYTES + 5, 3 * AHEAD_BYTES):
        room.reach(offset)
    assert disk.asked == [(0, AHEAD_BYTES), (AHEAD_BYTES, AHEAD_BYTES), (2 * AHEAD_BYTES, 5)]


@given(st.lists(st.integers(0, 5 * AHEAD_BYTES)), st.integers(AHEAD_BYTES, 5 * AHEAD_BYTES))
def test_what_is_written_next_has_room_and_no_byte_is_asked_for_twice(offsets: list[int], size_bytes: int) -> None:
    disk = Disk()
    room = Room(7, size_bytes, disk.allocate)
    for offset in offsets:
        room.reach(offset)
        assert sum(length for _, length in disk.asked) >= min(offset, size_bytes)
    assert [offset for offset, _ in disk.asked] == [AHEAD_BYTES * number for number in range(len(disk.asked))]
    assert sum(length for _, length in disk.asked) <= min(size_bytes, max([0, *offsets]) + AHEAD_BYTES)


def test_after_a_refusal_nothing_more_is_asked() -> None:
    disk = Disk(steps=1)
    room = Room(7, 5 * AHEAD_BYTES, disk.allocate)
    room.reach(5 * AHEAD_BYTES)
    room.reach(5 * AHEAD_BYTES)
    assert [offset for offset, _ in disk.asked] == [0, AHEAD_BYTES]


def test_a_small_file_asks_for_none() -> None:
    disk = Disk()
    Room(7, AHEAD_BYTES - 1, disk.allocate).reach(AHEAD_BYTES)
    assert disk.asked == []


def test_room_that_is_not_written_to_does_not_count_as_having_come(tmp_path: Path) -> None:
    spool, data = Spool(tmp_path), bytes(LARGE)
    blob = Blob(digest=digest_of(data), size_bytes=LARGE)
    with spool.receive(blob) as incoming:
        incoming.write(data[:5])
    assert spool.have(blob) == 5
    with spool.receive(blob) as incoming:
        incoming.write(data[5:])
    assert spool.path(blob.digest).read_bytes() == data


@pytest.mark.parametrize("written", [LARGE, 5], ids=["all of it", "the first bytes"])
def test_a_draft_is_as_long_as_what_was_written(tmp_path: Path, written: int) -> None:
    with Draft(tmp_path / "draft", LARGE) as draft:
        draft.write(bytes(written), 0)
        assert draft.path.stat().st_size == written
        found = draft.finish() if written == LARGE else ""
    assert found in {"", f"sha256:{hashlib.sha256(bytes(LARGE)).hexdigest()}"}
