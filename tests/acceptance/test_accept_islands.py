"""The demo end to end: from one command to a federated model served at three islands, and the commands after it."""

from __future__ import annotations

import json
import os
import re
import ssl
import stat
import urllib.request
from pathlib import Path

import pytest

from acceptance.workspace import ISLANDS, Workspace
from archipel.cli import processes

Islands = tuple[Workspace, str]
SITES = ("biscoe", "dream", "torgersen")


def test_the_federation_reaches_its_goal_on_everyones_birds(islands: Islands) -> None:
    overall = islands[0].report("islands")["overall"]
    federated, pooled = overall["federated"]["everyone"], overall["pooled"]["everyone"]
    assert federated["accuracy"] >= 0.97
    assert abs(federated["accuracy"] - pooled["accuracy"]) <= 0.02
    assert overall["alone"]["everyone"]["accuracy"] < 0.85


def test_report_json_holds_what_is_promised(islands: Islands) -> None:
    report = islands[0].report("islands")
    for way in ("alone", "federated", "personalised", "pooled"):
        for view in ("everyone", "own"):
            figures = report["overall"][way][view]
            assert 0 <= figures["accuracy"] <= 1
            assert figures["log_loss"] >= 0
    assert [site["name"] for site in report["sites"]] == list(SITES)
    # 344 penguins, two of whom were never measured.
    assert sum(site["rows"] for site in report["sites"]) == 342
    assert sum(site["quarantined"] for site in report["sites"]) == 2
    for site in report["sites"]:
        assert set(site["scores"]) == {"alone", "federated", "personalised", "pooled"}
    assert report["seconds"] == pytest.approx(sum(report["phases"].values()))
    assert report["bytes_moved"] == report["bytes_up"] + report["bytes_down"] > 0
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", report["model_digest"])
    assert len(report["losses"]) == 40
    assert report["losses"][-1]["loss"] < 0.1


def test_what_each_site_disclosed_is_listed_and_holds_no_more_than_is_known(islands: Islands) -> None:
    sites = islands[0].report("islands")["sites"]
    assert [site["name"] for site in sites] == sorted(SITES)
    for site in sites:
        kinds = {item["kind"] for item in site["disclosed"]}
        assert {"check manifest", "statistics sums", "train delta", "evaluate sums"} <= kinds
        assert all(item["what"] and item["size_bytes"] > 0 for item in site["disclosed"])


def test_every_island_answers_the_question_that_only_one_has_seen(islands: Islands) -> None:
    sites = islands[0].report("islands")["sites"]
    assert [site["name"] for site in sites] == sorted(SITES)
    for site in sites:
        said = re.match(r"Gentoo; probabilities Adelie (\S+), Chinstrap (\S+), Gentoo (\S+) ", site["answer"])
        assert said, site
        assert float(said[3]) > 0.9, site


def test_the_screen_says_all_of_it(islands: Islands) -> None:
    said = islands[1]
    for words in (
        "torgersen: 52 penguins",
        "Plan of islands",
        "3 sites join by token",
        "round 40 of 40",
        "loss",
        "moved",
        "report.json",
    ):
        assert words in said
    assert re.search(r"torgersen +51 +Adelie 51", said), "the plan was not shown with its sizes"


def test_the_log_counts_training_rounds_as_the_screen_does(islands: Islands) -> None:
    events = [json.loads(line) for line in islands[0].cli("logs", "--json").splitlines()]
    closed = [event["detail"] for event in events if event["what"] == "round.closed"]
    assert [detail["round"] for detail in closed if detail["kind"] == "train"] == list(range(1, 41))
    assert {"check", "evaluate"} <= {detail["kind"] for detail in closed if "round" not in detail}


def test_simulation_gives_the_same_bytes(islands: Islands, workspace: Workspace) -> None:
    simulated = workspace.json("simulate", str(ISLANDS))
    assert simulated["model_digest"] == islands[0].report("islands")["model_digest"]


def test_a_simulation_of_the_recorded_participation_gives_the_same_bytes(
    islands: Islands, workspace: Workspace
) -> None:
    recorded = workspace.folder / "lineage.json"
    recorded.write_text(islands[0].cli("models", "islands", "--json"))
    simulated = workspace.json("simulate", str(ISLANDS), "--participation", str(recorded))
    assert simulated["model_digest"] == islands[0].report("islands")["model_digest"]


def test_sites_are_processes_with_their_own_folder_and_a_key_nobody_else_may_read(islands: Islands) -> None:
    fleet = islands[0].fleet("islands")
    leaders = processes.leaders(fleet)
    assert {"control", *(f"site/{name}" for name in SITES)} <= set(leaders)
    assert len({process.pid for process in leaders.values()}) == len(leaders)
    keys = [fleet / "sites" / name / "key.pem" for name in SITES]
    assert len({key.read_bytes() for key in keys}) == 3
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    # Control has none of them, and no site has another's rows.
    held = {path.read_bytes() for path in (fleet / "control").rglob("*") if path.is_file()}
    assert not held & {key.read_bytes() for key in keys}


def next_commands(said: str) -> list[str]:
    lines = said[said.index("the sites keep serving") :].splitlines()
    return [line.strip().split("   #")[0] for line in lines if line.startswith("  ")]


def test_the_next_commands_work_when_pasted(islands: Islands) -> None:
    place, said = islands
    commands = next_commands(said)
    assert [words.split()[1] for words in commands if words.startswith("archipel")] == ["status", "predict", "stop"]
    assert "torgersen" in place.paste(commands[0])
    assert place.paste(commands[1]).startswith("Gentoo; probabilities Adelie ")
    address = next(words for words in commands if words.startswith("https://"))
    authority = (place.fleet("islands") / "control").rglob("ca.pem")
    trust = ssl.create_default_context(cadata=next(authority).read_text())
    with urllib.request.urlopen(address, context=trust, timeout=20) as answer:
        assert answer.status == 200


def test_reading_commands_answer_tools_in_json(islands: Islands) -> None:
    place = islands[0]
    status = place.json("status")
    assert [site["name"] for site in status["sites"]] == list(SITES)
    assert {site["serving"][0]["name"] for site in status["sites"]} == {"islands"}
    (model,) = place.json("models", "islands")["models"]
    assert model["weights"]["digest"] == place.report("islands")["model_digest"]
    assert set(model["lineage"]["datasets"]) == set(SITES)
    assert place.json("plan", str(ISLANDS))["cohort_size"] == 3
    events = place.cli("logs", "--json").splitlines()
    assert any('"run.finished"' in line for line in events)
    assert place.json("invite", "elephant")["token"].startswith("arc1.")


def test_the_page_is_one_file_that_can_be_opened_anywhere(islands: Islands) -> None:
    page = (islands[0].fleet("islands") / "report.html").read_text()
    assert "<svg" in page
    assert "torgersen" in page
    assert "<script" not in page


def test_no_process_runs_where_it_could_read_another_sites_folder_by_its_arguments(islands: Islands) -> None:
    fleet = islands[0].fleet("islands")
    running = processes.leaders(fleet)
    assert running.keys() == {"control", *(f"site/{name}" for name in SITES)}
    for role, process in running.items():
        line = " ".join(process.cmdline())
        others = [name for name in SITES if f"{os.sep}{name}" in line and role != f"site/{name}"]
        assert others == []
        assert "arc1." not in line, "a token is on a command line"


def test_a_run_after_a_finished_one_is_a_new_run_with_the_same_bytes_and_stop_leaves_no_process(
    islands: Islands,
) -> None:
    place = islands[0]
    first = place.report("islands")
    place.cli("run", str(ISLANDS))
    second = place.report("islands")
    assert second["run"] != first["run"]
    assert second["model_digest"] == first["model_digest"]
    assert second["model_version"] == first["model_version"] + 1
    assert "ended control of islands" in place.cli("stop")
    assert place.processes() == []
    assert "nothing was running" in place.cli("stop", "--all")
    assert Path(place.fleet("islands") / "report.json").is_file()
