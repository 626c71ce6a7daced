"""The last step of a run waits for, and asks, the sites that were ordered to serve its model, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from archipel.cli import reporting
from archipel.cli.reporting import _ask_all, _await_serving, _provenance, _taking_part
from archipel.spec import ServedModel
from archipel.spec.views import RunProgress, RunView, SiteProgress, SiteView
from unit.cli.test_cli_report import run_report
from unit.cli.test_cli_report import site as scored

DIGEST = "sha256:" + "ab" * 32
RUN = RunView(
    id="birds-2", job="birds", job_digest=DIGEST, bundle=DIGEST, state="finished", submitted_at=0.0, model_version=2
)


def site(name: str, *versions: int, url: str = "http://127.0.0.1:1") -> SiteView:
    served = tuple(ServedModel(name="birds", version=v, copy="global", digest=DIGEST, url=url) for v in versions)
    return SiteView(name=name, presence="here", joined_at=0.0, serving=served)


def ended(**status: Literal["not asked", "refused"]) -> RunProgress:
    sites = tuple(SiteProgress(site=name, presence="here", status=said) for name, said in status.items())
    return RunProgress(seq=1, run=RUN, sites=sites)


class Local:
    """A run with local sites that is told of each moment of waiting."""

    def __init__(self) -> None:
        self.waited = 0
        self.job = SimpleNamespace(deployment=SimpleNamespace(question={"bill": [39.1]}))

    def supervise(self) -> None:
        self.waited += 1


def await_serving(*looks: tuple[SiteView, ...], **status: Literal["not asked", "refused"]) -> tuple[Any, int]:
    local: Any = Local()
    left = list(looks)
    client: Any = SimpleNamespace(sites=lambda: left.pop(0))
    return _await_serving(client, ended(**status), local), local.waited


def test_a_refused_site_and_one_of_no_run_are_not_waited_for() -> None:
    north, south, stranger = site("north", 2), site("south"), site("stranger", 1)
    assert await_serving((north, south, stranger), north="not asked", south="refused") == ((north,), 0)


def test_a_site_that_still_serves_the_version_before_is_waited_for() -> None:
    looks = [(site("north", 1),), (site("north"),), (site("north", 2),)]
    assert await_serving(*looks, north="not asked") == (looks[2], 2)


def test_the_version_that_the_run_made_is_asked_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(url: str, model: str, _question: object) -> dict[str, Any]:
        asked.append(f"{url} {model}")
        return {"outputs": [{"name": "p", "datatype": "FP32", "shape": [1], "data": [0.5]}]}

    monkeypatch.setattr(reporting, "ask", ask)
    local: Any = Local()
    sites = (site("north", 2), site("south", 1), site("west", 2, url=""))
    assert _ask_all(sites, RUN, local) == {
        "north": "p 0.500 (global)",
        "south": "serves nothing yet",
        "west": "serves nothing yet",
    }
    assert asked == ["http://127.0.0.1:1 birds"]


def test_a_refused_site_is_no_participant() -> None:
    found = run_report(scored("north", 0.8, 0.9, 0.9), scored("south", None, None, None))
    taking_part = _taking_part(ended(north="not asked", south="refused"))
    assert _provenance(found, len(taking_part)).participation == "1 of 2 sites, 3 training rounds"
