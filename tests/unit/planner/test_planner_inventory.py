"""Inventories as fleets: the best measured rate of what runs, disks that were read, links as they were seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.planner.capacity import capacity_of
from archipel.planner.forecast import forecast
from archipel.planner.inventory import fleet_of, reach_of
from archipel.planner.pace import FAST, SLOW, Reach, round_seconds
from archipel.planner.plan import draw_plan
from archipel.planner.traffic import Sizes
from archipel.spec import DatasetManifest, digest_of
from archipel.spec.device import Capabilities, Device, DeviceReport, Figure, Health
from archipel.spec.inventory import Disk, Load, SiteInventory
from archipel.spec.job import DataSpec, FederationSpec, JobSpec, LocalTraining, TaskSpec
from archipel.spec.quantities import Bandwidth, Compute, Size

JOB = JobSpec(
    name="birds",
    task=TaskSpec(code="task.py:Birds"),
    data=DataSpec(dataset="birds"),
    federation=FederationSpec(rounds=2, local=LocalTraining(epochs=1, batch_size=10, learning_rate=0.1)),
)
MODEL_BYTES = 4_000_000


def measured(value: float) -> Figure:
    return Figure(value=value, source="measured", how="by hand")


def report(name: str, adapter: str, rate: float, label: str = "executed", state: str = "ok") -> DeviceReport:
    return DeviceReport(
        device=Device(name=name, kind="cpu", adapter=adapter, model="m", label=label, backing=adapter),
        capabilities=Capabilities(
            rates={"float32": measured(rate)},
            serial=measured(rate / 2) if adapter == "numpy" else None,
            memory=Figure(value=8e9, source="reported", how="by hand"),
        ),
        health=Health(state=state),
        measured_at=0.0,
    )


def inventory(*reports: DeviceReport, disks: tuple[Disk, ...] = (), **links: Figure) -> SiteInventory:
    load = Load(cores=0.5, memory_available_bytes=4)
    return SiteInventory(at=0.0, cores=2, memory_bytes=8_000_000_000, load=load, devices=reports, disks=disks, **links)


def test_a_device_counts_once_at_the_best_rate_that_any_adapter_got() -> None:
    found = fleet_of("now", {"coral": inventory(report("cpu", "numpy", 1e11), report("cpu", "xla", 2e11))})
    assert {name: one.compute for name, one in found.sites["coral"].devices.items()} == {"cpu": Compute(2e11)}
    capacity = capacity_of(found)
    assert capacity.compute is not None
    assert capacity.compute.total == Compute(2e11)


def test_what_does_not_run_or_answers_wrongly_does_no_work() -> None:
    reports = (
        report("tpu-v5e", "tpu", 1e14, label="compiled"),
        report("gpu0", "nvidia", 1e13, label="selected"),
        report("opencl0", "opencl", 1e10, label="emulated"),
        report("cpu", "numpy", 1e11, state="failed"),
    )
    assert fleet_of("now", {"coral": inventory(*reports)}).sites["coral"].devices == {}


def test_a_gpu_that_two_adapters_see_counts_once() -> None:
    reports = (report("opencl0", "opencl", 1e12), report("gpu0", "nvidia", 1e13))
    assert set(fleet_of("now", {"coral": inventory(*reports)}).sites["coral"].devices) == {"gpu0"}
    assert set(fleet_of("now", {"coral": inventory(*reports[:1])}).sites["coral"].devices) == {"opencl0"}


def test_disks_that_were_read_are_tiers_with_what_is_free_on_them() -> None:
    disks = (
        Disk(tier="nvme", capacity_bytes=100, free_bytes=60, holds_site=True, read=measured(5e9)),
        Disk(tier="hdd", capacity_bytes=100, free_bytes=60),
        Disk(tier="ssd", capacity_bytes=100, free_bytes=0, read=measured(1e9)),
    )
    [(tier, found)] = fleet_of("now", {"coral": inventory(disks=disks)}).sites["coral"].storage.items()
    assert (tier, found.capacity, found.bandwidth) == ("nvme", Size(60.0), Bandwidth(5e9))


def test_links_and_rows_go_over_and_a_data_set_without_rows_does_not() -> None:
    found = fleet_of("now", {"coral": inventory(down=measured(1e6))}, {"coral": {"birds": 40, "fish": 0}})
    site = found.sites["coral"]
    assert (site.down, site.up, site.rows) == (Bandwidth(1e6), None, {"birds": 40})
    assert forecast(found, JOB).plan.participants[0].rows == 40


def test_a_measured_site_has_a_plan_of_its_own_rate_and_links() -> None:
    # 1,000 rows x 6 operations x 1,000,000 parameters = 6e9 operations, 100 batches, 4 MB each way.
    reach = Reach(operations_per_second=1e11, down=4e6, up=2e6)
    low, high = round_seconds(JOB, 1000, MODEL_BYTES, reach)
    assert abs(low - (0.06 + 100 * 2e-5 + 1 + 2)) < 1e-9
    assert abs(high - (10 * 6e9 / 4e9 + 100 * 5e-3 + 1 + 2)) < 1e-9


def test_what_is_not_measured_is_guessed_as_before() -> None:
    assert round_seconds(JOB, 1000, MODEL_BYTES, Reach()) == round_seconds(JOB, 1000, MODEL_BYTES)


@given(
    rate=st.floats(SLOW.operations_per_second, 1e13),
    more=st.floats(1.0, 100.0),
    down=st.floats(1e4, 1e9),
)
def test_a_faster_site_never_takes_longer(rate: float, more: float, down: float) -> None:
    slow = round_seconds(JOB, 1000, MODEL_BYTES, Reach(operations_per_second=rate, down=down))
    fast = round_seconds(JOB, 1000, MODEL_BYTES, Reach(operations_per_second=rate * more, down=down * more))
    assert all(one <= other for one, other in zip(fast, slow, strict=True))
    assert fast[0] <= fast[1]


def test_a_plan_says_that_it_used_what_sites_measured() -> None:
    held = {"coral": DatasetManifest(dataset="birds", digest=digest_of(b""), size_bytes=1, rows=1000)}
    sizes = Sizes(model_bytes=MODEL_BYTES)
    reach = reach_of(inventory(report("cpu", "numpy", 2 * FAST.operations_per_second), up=measured(1e6)))
    assert reach == Reach(operations_per_second=FAST.operations_per_second, up=1e6)
    plan = draw_plan(JOB, held, sizes, reaches={"coral": reach})
    assert any("inventory" in said for said in plan.assumptions)
    assert not any("inventory" in said for said in draw_plan(JOB, held, sizes).assumptions)
    assert plan.participants[0].seconds_per_round == round_seconds(JOB, 1000, MODEL_BYTES, reach)
