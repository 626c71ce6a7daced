"""Fleet files: what is read, and what is refused by name."""

from __future__ import annotations

import pytest

from archipel.spec.errors import SpecError, UnknownNameError
from archipel.spec.fleet import fleet_from, read_fleet
from archipel.spec.quantities import Bandwidth, Compute
from archipel.spec.schema import fleet_schema


def document(**more):
    return {"name": "two", "sites": {"here": {"devices": {"cpu": {"compute": "4 GFLOPS"}}}}, **more}


def test_a_fleet_is_read_with_its_units_and_a_preset_laid_over_it(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(
        'name = "two"\n[sites.here.devices]\ncpu = {count = 3, compute = "4 GFLOPS"}\n'
        '[[links]]\nends = ["here", "there"]\nbandwidth = "8 Gb/s"\n'
        '[preset.fast.sites.here.devices.cpu]\ncompute = "8 GFLOPS"\n'
    )
    fleet = read_fleet(file)
    assert fleet.sites["here"].devices["cpu"].compute == Compute(4e9)
    assert fleet.sites["here"].devices["cpu"].count == 3
    assert fleet.links[0].bandwidth == Bandwidth(1e9)
    assert read_fleet(file, ("fast",)).sites["here"].devices["cpu"].compute == Compute(8e9)


LINK = {"ends": ["here", "there"], "bandwidth": "1 Gb/s"}


@pytest.mark.parametrize(
    ("wrong", "error", "message", "hint"),
    [
        ({"sties": {}}, UnknownNameError, "unknown key in fleet: 'sties'", "'sites'"),
        ({"links": [LINK | {"bandwith": "1 Gb/s"}]}, UnknownNameError, "'bandwith'", "'bandwidth'"),
        ({"demand": {"compute": "100 TPS"}}, SpecError, "$.demand.compute", "work_per_transaction"),
        ({"demand": {"storage": "0 TB"}}, SpecError, "'0 TB' is not above 0", "leave out"),
        ({"demand": {"storage": "1 Tx"}}, UnknownNameError, "unknown unit 'Tx'", "did you mean"),
        ({"demand": {"copies": 0}}, SpecError, "$.demand.copies", "schema --fleet"),
        ({"demand": {"source": "here"}}, SpecError, "one end of a transfer", "neither"),
        ({"demand": {"source": "hree", "target": "here"}}, UnknownNameError, "source", "'here'"),
        ({"work": {"a": {"work": "1 TFLOP", "devices": ["cpx"]}}}, UnknownNameError, "device", "'cpu'"),
        ({"work": {"a": {"work": "1 TFLOP", "regions": ["eu"]}}}, UnknownNameError, "region", "known"),
        ({"preset": {"a": {"demnd": {}}}}, UnknownNameError, "'demnd'", "'demand'"),
    ],
)
def test_what_is_wrong_is_named(wrong, error, message, hint):
    with pytest.raises(error) as caught:
        fleet_from(document(**wrong))
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_preset_nobody_knows_and_a_file_that_is_absent_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="preset 'fats'"):
        fleet_from(document(preset={"fast": {}}), ("fats",))
    with pytest.raises(SpecError, match="no fleet file"):
        read_fleet(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(SpecError, match="not valid TOML"):
        read_fleet(tmp_path / "bad.toml")


def test_the_schema_knows_every_table_and_takes_quantities_as_text():
    schema = fleet_schema()
    tables = schema["$defs"]
    assert set(tables["FleetSpec"]["properties"]) >= {"name", "sites", "links", "demand", "work", "preset"}
    assert tables["Tier"]["properties"]["bandwidth"]["type"] == "string"
    assert tables["Tier"]["properties"]["bandwidth"]["examples"] == ["1 TB/s"]
