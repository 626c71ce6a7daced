"""Nobody waits for what is not theirs: the event loop for no run's lock, a run for no store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from archipel.site.link.protocol import PutStart
from archipel.spec import Blob, DatasetManifest, Update, digest_of
from archipel.spec.wire import Offer
from unit.control.control_stage import NAMES, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(tmp_path, closing)


async def test_the_event_loop_goes_on_while_an_upload_waits_for_a_busy_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.enter(*NAMES)
    driver = stage.start()
    taken, free = threading.Event(), threading.Event()
    freed: list[bool] = []

    def be_busy() -> None:
        with driver._lock:
            taken.set()
            freed.append(free.wait(5))

    real, loop = stage.house.runs.admit, asyncio.get_running_loop()

    def asked(*how: Any) -> Any:
        loop.call_soon_threadsafe(free.set)
        return real(*how)

    monkeypatch.setattr(stage.house.runs, "admit", asked)
    busy = threading.Thread(target=be_busy)
    busy.start()
    assert taken.wait(5)
    data = b"an update"
    offer = Offer(run=driver.run, blob=Blob(digest=digest_of(data), size_bytes=len(data)))

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    done = await stage.house.sites_door.put(PutStart(offer=offer, offset=0), pieces(), stage.certificates["reef"])
    busy.join()
    assert (done.have_bytes, freed) == (len(data), [True])


def test_a_run_is_free_while_the_store_drops_what_a_round_has_left(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.enter(*NAMES)
    driver = stage.start()
    free: list[bool] = []

    def look() -> None:
        other = threading.Thread(target=driver.task_for, args=("coral",), daemon=True)
        other.start()
        other.join(5)
        free.append(not other.is_alive())

    monkeypatch.setattr(stage.house.holdings, "drop_left", look)
    for site in NAMES:
        manifest = DatasetManifest(dataset="birds", digest=digest_of(site.encode()), size_bytes=1, rows=3)
        check = Update(run=driver.run, round=0, site=site, kind="check", dataset=manifest)
        assert stage.house.runs.submit(check).status == "accepted"
    assert driver.coordinator.number == 1
    assert free == [True], "asked once: when the round was closed"
