"""What `archipel devices` prints: the label and the word behind a figure are never left out."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from archipel.cli import foreseeing
from archipel.cli.main import main
from archipel.cli.measuring import show_inventory, show_sites, show_survey
from archipel.spec import DatasetManifest, StateError, digest_of
from archipel.spec.device import (
    SAID,
    Absent,
    Capabilities,
    Device,
    DeviceReport,
    DeviceSurvey,
    Figure,
    Health,
)
from archipel.spec.inventory import Disk, Load, SiteInventory
from archipel.spec.policy import Hours
from archipel.spec.quantities import Bandwidth, Compute
from archipel.spec.views import SiteDataset, SiteView
from archipel.tasks.devices import survey


def figure(value: float, source: str = "measured") -> Figure:
    return Figure(value=value, source=source, how="by hand")


CPU = DeviceReport(
    device=Device(name="cpu", kind="cpu", adapter="numpy", model="A [fast] one", label="executed", backing="numpy 2"),
    capabilities=Capabilities(
        rates={"float32": figure(2e11)},
        serial=figure(1e11),
        memory=figure(8e9, "reported"),
        power=figure(10, "modelled"),
    ),
    health=Health(state="ok", detail="a known answer is off by 0.0e+00"),
    measured_at=1.0,
)
INVENTORY = SiteInventory(
    at=1_000.0,
    cores=2,
    memory_bytes=8_000_000_000,
    load=Load(cores=0.25, memory_available_bytes=4_000_000_000),
    devices=(CPU,),
    disks=(
        Disk(
            tier="nvme",
            capacity_bytes=2_000_000_000_000,
            free_bytes=1_000_000_000_000,
            holds_site=True,
            read=figure(5e9),
            write=figure(2e9),
        ),
    ),
    down=figure(1.25e8),
)


def printed(show, *arguments) -> str:
    out = io.StringIO()
    show(*arguments, Console(file=out, width=200))
    return out.getvalue()


@pytest.mark.parametrize("label", SAID)
def test_every_device_is_printed_with_its_label(label):
    report = msgspec.structs.replace(CPU, device=msgspec.structs.replace(CPU.device, label=label))
    assert f": {SAID[label]} by numpy 2" in printed(show_survey, DeviceSurvey(reports=(report,)))


def test_a_figure_that_was_not_measured_has_its_word():
    said = printed(show_survey, DeviceSurvey(reports=(CPU,)))
    assert "A [fast] one" in said
    assert "f32 200 GFLOPS, f32 on one core 100 GFLOPS" in said
    assert "memory 8 GB reported at —, power 10 W modelled" in said


def test_what_is_missing_is_printed_with_the_way_to_it():
    said = printed(show_survey, DeviceSurvey(absent=(Absent(adapter="tpu", reason="no libtpu", hint="install it"),)))
    assert "not here: tpu (no libtpu; install it)" in said


def test_an_inventory_shows_what_a_site_has_and_what_changed():
    before = msgspec.structs.replace(INVENTORY, cores=1, devices=(), hours=Hours(begin="22:00", end="06:00"))
    said = printed(show_inventory, "coral", (INVENTORY, before))
    assert "2 cores, load 25 %; memory 4 GB of 8 GB free" in said
    assert "disk nvme (holds the site's folder): 1 TB of 2 TB free, read 5 GB/s, write 2 GB/s" in said
    assert "link down 125 MB/s, up —" in said
    assert "work begins at any time" in said
    assert "cores 1 → 2" in said
    assert "+ cpu by numpy 2, executed" in said
    assert printed(show_inventory, "coral", ()) == "coral has not said what it has\n"
    assert "work begins from 22:00 to 06:00 (local)" in printed(show_inventory, "coral", (before,))
    assert "not measured before" in printed(show_inventory, "coral", (before,))


def test_sites_are_listed_also_those_that_have_not_said_anything():
    said = printed(show_sites, ("coral", "reef"), {"coral": INVENTORY}).splitlines()
    assert said[1].split() == ["coral", "cpu", "200", "GFLOPS", "8", "GB", "5", "GB/s", "125", "MB/s", "—", "25", "%"]
    assert said[2].split() == ["reef", "not", "said"]


class Plane:
    def __init__(self, inventories):
        self.found = inventories

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def inventories(self):
        return self.found

    def sites(self):
        manifest = DatasetManifest(dataset="birds", digest=digest_of(b""), size_bytes=1, rows=40)
        held = (SiteDataset(dataset="birds", manifest=manifest), SiteDataset(dataset="fish"))
        return (SiteView(name="coral", presence="here", joined_at=0.0, datasets=held),)


def test_the_fleet_there_is_is_made_of_what_its_sites_said():
    fleet = foreseeing.open_fleet("now", lambda: Plane({"coral": INVENTORY}))
    site = fleet.sites["coral"]
    assert site.devices["cpu"].compute == Compute(2e11)
    assert (site.down, site.rows) == (Bandwidth(1.25e8), {"birds": 40})
    with pytest.raises(StateError, match="no site has said"):
        foreseeing.open_fleet("now", lambda: Plane({}))


def test_the_command_measures_and_answers_in_json(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(survey, "_asked", lambda _name, _niceness: DeviceSurvey(reports=(CPU,)))
    main(["devices", "--adapter", "numpy", "--json"])
    assert msgspec.json.decode(capsys.readouterr().out, type=DeviceSurvey).reports == (CPU,)
    assert list((tmp_path / "archipel" / "devices").glob("numpy-*.json"))


def test_an_unknown_adapter_ends_with_the_nearest_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["devices", "--adapter", "nunpy"])
    assert ended.value.code == 2
    assert "numpy" in capsys.readouterr().err
