"""`archipel plan --what-if`: the examples as a person sees them, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archipel.cli.main import main

ROOT = Path(__file__).parents[3] / "examples"


def said(capsys, *words, code=None):
    ended = None
    try:
        main(["plan", *map(str, words)])
    except SystemExit as error:
        ended = error.code
    assert ended == code
    return " ".join(capsys.readouterr().out.split())


def test_the_hall_is_shown_with_what_decides(capsys):
    shown = said(capsys, "--what-if", ROOT / "capacity/fleet.toml")
    for part in ("1,900 GFLOPS", "1,400 GFLOPS", "12 TB", "26 GB/s", "1.25 GB/s", "8,000 s", "10 Gb/s", "85 Gb/s"):
        assert part in shown
    assert "28.33 Gb/s not usable" in shown
    assert "undecided: 100 TPS and FLOPS have no common unit" in shown
    assert "infeasible" not in shown


def test_a_second_copy_is_infeasible_by_8_tb(capsys):
    shown = said(capsys, "--what-if", f"{ROOT}/capacity/fleet.toml:two-copies", code=9)
    assert "infeasible: storage 20 TB of 12 TB, 8 TB missing" in shown


def test_json_gives_base_units(capsys):
    found = json.loads(said(capsys, "--what-if", ROOT / "capacity/fleet.toml", "--json"))
    assert found["capacity"]["compute"]["total"] == {"value": 1.9e12, "unit": "FLOP/s"}
    assert found["capacity"]["storage"]["read_time"] == {"value": 8000.0, "unit": "s"}
    assert found["placement"] is None


def test_a_job_over_a_fleet_names_its_slowest_site_and_what_a_deadline_would_need(capsys):
    words = (ROOT / "islands/job.toml", "--what-if", ROOT / "capacity/islands.toml")
    shown = said(capsys, *words, "--deadline", "1 min", code=9)
    assert "slowest: biscoe" in shown
    assert "infeasible within 1 min it would take a deadline of 428 s, or 5 rounds instead of 40" in shown
    assert "feasible within 1 h" in said(capsys, *words, "--deadline", "1 h")


def test_work_is_drawn_over_its_devices(capsys, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\n[sites.a.devices]\ncpu = {compute = "1 GFLOPS", price = "3600 EUR/h"}\n'
        'gpu = {compute = "4 GFLOPS", price = "36000 EUR/h"}\n[work.fit]\ncount = 5\nwork = "4 GFLOP"\n'
    )
    shown = said(capsys, "--what-if", file)
    assert "a/gpu/1" in shown
    assert "all done after 4.0 s" in shown
    assert "proved to be the best" in shown
    assert "Choices" in shown
    shown = said(capsys, "--what-if", file, "--deadline", "3 s", code=9)
    assert "infeasible: deadline in the way it would take a deadline of 4.000 s instead of 3 s" in shown


def test_work_takes_turns_by_weight(capsys, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\n[sites.a.devices]\ncpu = {compute = "1 GFLOPS"}\n'
        '[work.nightly]\nwork = "720 GFLOP"\n[work.urgent]\nwork = "1080 GFLOP"\nweight = 3\n'
    )
    shown = said(capsys, "--what-if", file, "--share", "weighted-completion")
    assert "urgent a/cpu 18 min 0 s nightly waits 30 min 0 s" in shown
    assert "the last after 30 min 0 s" in shown
    assert "proved to be the best" in shown
    found = json.loads(said(capsys, "--what-if", file, "--share", "makespan", "--json"))
    assert max(found["timetable"]["ends"].values()) == 1800.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no job to plan"),
        (("--deadline", "1 h"), "go with --what-if"),
        (("--share", "makespan"), "go with --what-if"),
        (("--what-if", f"{ROOT}/capacity/clinics.toml", "--share", "makspan"), "unknown objective 'makspan'"),
        (("--what-if", f"{ROOT}/capacity/clinics.toml", "--share", "makespan", "--budget", "1 EUR"), "--share goes"),
        (("--what-if", f"{ROOT}/capacity/fleet.toml", "--share", "makespan"), "has no work to share"),
        (("--what-if", "none.toml"), "no fleet file"),
        (
            (f"{ROOT}/islands/job.toml", "--what-if", f"{ROOT}/capacity/islands.toml", "--budget", "1 EUR"),
            "by time alone",
        ),
        (("--what-if", f"{ROOT}/capacity/fleet.toml", "--objective", "tiem"), "unknown objective 'tiem'"),
        (("--what-if", f"{ROOT}/capacity/fleet.toml", "--budget", "3 s"), "counts s where money are needed"),
        ((f"{ROOT}/islands/job.toml", "--what-if", f"{ROOT}/capacity/fleet.toml"), "no site of hall has rows"),
    ],
)
def test_what_is_wrong_ends_with_code_2_and_a_next_step(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert message in " ".join(shown.split())
    assert "next:" in shown


def test_a_job_that_leaves_compression_to_the_plan_is_told_what_to_write(capsys, tmp_path):
    probes = 'probes = [{ batch = 16, time = "20 ms" }, { batch = 64, time = "50 ms" }]'
    links = {"fast": "100 Mb/s", "slow": "2 Mb/s"}
    sites = [f'[sites.{name}]\nrows = {{ penguins = 1000 }}\nup = "{up}"\n{probes}' for name, up in links.items()]
    (tmp_path / "fleet.toml").write_text("\n".join(['name = "two"', 'model = "20 MB"', *sites]))
    job = tmp_path / "job.toml"

    def planned(kind):
        text = (ROOT / "islands/job.toml").read_text().replace("min_sites = 3", "min_sites = 2")
        job.write_text(f'{text}\n[federation.compression]\nkind = "{kind}"\n')
        return said(capsys, job, "--what-if", tmp_path / "fleet.toml")

    shown = planned("auto")
    assert 'picked; write in the job: [federation.compression] kind = "none" sites = { slow = "top-k" }' in shown
    assert "slow 1,000 — 5.8 top-k 1.13 MB" in shown
    shown = planned("int8")
    assert "picked" not in shown
    assert "compression: updates take 0.251 of their bytes" in shown
