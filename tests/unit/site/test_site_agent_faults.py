"""An agent outlives what goes wrong around it: certificates that expire, lost receipts, full disks, dead servers."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

from archipel.site.agent import read_status
from archipel.spec import Blob
from unit.site.site_fakes import FakeControl, living, make_job, put_bundle, utc_now, write_birds
from unit.site.site_runs import Run, began


async def test_a_site_goes_on_when_the_certificate_it_dialled_with_has_expired(
    control: FakeControl, tmp_path: Path
) -> None:
    run = Run(control, make_job(), put_bundle(control.spool, tmp_path / "job"))
    birds = {"birds": write_birds(tmp_path / "data")}
    place = control.enrol(tmp_path / "aging", birds, now=utc_now() - dt.timedelta(hours=20))
    uploading = asyncio.Event()

    async def hold(_: Blob) -> None:
        uploading.set()
        await asyncio.Event().wait()  # until the link it came over is gone

    control.at_put, control.at_renew = hold, uploading.wait
    with place.locked():
        async with living(place):
            known = await began(run)
            control.later = dt.timedelta(hours=10)
            update = await run.stage("train-1", "train", step=1, **known)
            status = read_status(place.path)
    assert update.weight == 30
    assert (control.renewals, len(control.hellos)) == (1, 2)
    assert status is not None
    assert (status.state, status.error) == ("connected", "")
