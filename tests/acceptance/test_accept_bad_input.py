"""Bad input, as a table: each gives an error (or a word on the screen) that names the thing and the next step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from acceptance.workspace import JOB, TASK, Workspace
from archipel.cli.planes import operator_of
from archipel.security import Authority, load_or_make_key, signing_request
from archipel.site.agent.folder import SiteFolder

SITES = ("north", "south")


def nothing(_: Workspace) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class Refused:
    """A run that must not even start."""

    name: str
    code: int
    says: tuple[str, ...]
    toml: str = JOB
    words: tuple[str, ...] = ()
    prepare: Callable[[Workspace], None] = nothing


def no_data(place: Workspace) -> None:
    for path in sorted((place.folder / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


REFUSED = [
    Refused("wrong type", 2, ("rounds", "archipel schema"), toml=JOB.replace("rounds = 3", 'rounds = "three"')),
    Refused("out of range", 2, ("rounds",), toml=JOB.replace("rounds = 3", "rounds = 0")),
    Refused("unknown key", 2, ("'round'", "did you mean 'rounds'?"), toml=JOB.replace("rounds = 3", "round = 3")),
    Refused("unknown section", 2, ("'federaton'", "'federation'"), toml=JOB.replace("[federation]", "[federaton]")),
    Refused("unknown algorithm", 2, ("fedavg",), toml=JOB.replace("rounds = 3", 'rounds = 3\nalgorithm = "fedavgg"')),
    Refused("not TOML", 2, ("not valid TOML", "mend the line"), toml=JOB.replace("rounds = 3", "rounds = = 3")),
    Refused("unknown preset", 2, ("preset", "quick"), words=("--preset", "quick")),
    Refused("no site folders", 3, ("holds no folder", "one folder per site"), prepare=no_data),
    Refused("a name no site may have", 3, ("North!", "rename the folder"), prepare=lambda place: place.birds("North!")),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_cannot_run_is_refused_before_anything_starts(workspace: Workspace, case: Refused) -> None:
    workspace.job(case.toml)
    for site in SITES:
        workspace.birds(site)
    case.prepare(workspace)
    said = workspace.run(*case.words, code=case.code)
    for words in ("error: ", "next: ", *case.says):
        assert words in said
    assert workspace.processes() == []


def test_missing_data_names_the_option(workspace: Workspace) -> None:
    workspace.job()
    said = workspace.cli("run", "job/job.toml", code=3)
    assert "--data FOLDER" in said
    assert "no data folder at" in workspace.cli("run", "job/job.toml", "--data", "nowhere", code=3)


@dataclass(frozen=True)
class Site:
    """A third site that has something wrong, beside two that are well."""

    name: str
    kinds: str = "at" * 12
    extra: str = ""
    says: tuple[str, ...] = ()


BAD_SITES = [
    Site("empty", kinds="", says=("empty takes no part", "rows")),
    Site("mostly-broken", extra="auk,heavy,20,\n" * 20, says=("mostly-broken takes no part", "weight")),
    Site("one-class", kinds="a" * 24),
    Site("one-bad-row", extra="auk,heavy,20,\n"),
]


def test_sites_with_bad_data_are_named_and_the_others_go_on(workspace: Workspace) -> None:
    workspace.job()
    for name in SITES:
        workspace.birds(name)
    for site in BAD_SITES:
        workspace.birds(site.name, site.kinds, site.extra)
    workspace.birds("no-column")
    file = workspace.folder / "data" / "no-column" / "birds.csv"
    file.write_text(file.read_text().replace("wing", "wng"))
    said = workspace.run()
    for site in BAD_SITES:
        for words in site.says:
            assert words in said
    assert "no-column takes no part" in said
    assert "wing" in said
    sites = {site["name"]: site for site in workspace.report()["sites"]}
    assert {name for name, site in sites.items() if site["absent"]} == {"empty", "mostly-broken", "no-column"}
    assert sites["one-class"]["scores"]["federated"]["own"]["accuracy"] >= 0
    assert sites["one-bad-row"]["quarantined"] == 1


@dataclass(frozen=True)
class Failing:
    """A task or setting that fails at every site; after it is mended, the same command ends well."""

    name: str
    task: str
    says: tuple[str, ...]
    toml: str = JOB
    hidden: tuple[str, ...] = field(default=())


FAILING = [
    Failing(
        "a task that raises",
        TASK.replace("samples = self", "raise ValueError('row 4711')\n        samples = self"),
        ("ValueError", "task.py", "in the site's log (", "/.archipel/birds/logs/"),
        hidden=("4711",),
    ),
    Failing(
        "updates that are not finite", TASK, ("NonFiniteError", "learning rate"), JOB.replace("0.2\n", "1e300\n", 2)
    ),
]


def test_a_failing_job_says_why_and_the_mended_job_ends_well(workspace: Workspace) -> None:
    for name in SITES:
        workspace.birds(name)
    for case in FAILING:
        workspace.job(case.toml.replace("max_quarantined = 1e300", "max_quarantined = 0.2"), case.task)
        said = workspace.run(code=1)
        for words in ("error: ", "next: ", *case.says):
            assert words in said, case.name
        assert not any(words in said for words in case.hidden), "what a task's error says may hold data"
    workspace.job()
    workspace.run()
    assert workspace.report()["state"] == "finished"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("self.features = ('weight',)", "sum 'features.count' of south has shape (1,), others (2,)"),
        ("self.classes = ('auk', 'gull', 'tern')", "south built a model of other shapes than most sites"),
    ],
    ids=["of sums", "of the update"],
)
def test_a_site_whose_shapes_differ_is_named_and_the_others_go_on(workspace: Workspace, line: str, says: str) -> None:
    workspace.job(task=TASK.replace("samples = self", f"if site.site == 'south': {line}\n        samples = self"))
    for name in (*SITES, "west"):
        workspace.birds(name)
    assert f"south takes no part: ShapeError: {says}" in workspace.run()
    assert f"south takes no part: {says}" in workspace.cli("simulate", "job/job.toml", "--data", "data")
    assert {site["name"] for site in workspace.report()["sites"] if site["absent"]} == {"south"}


def test_an_expired_certificate_is_named_and_a_local_site_joins_again_by_itself(workspace: Workspace) -> None:
    workspace.job()
    for name in SITES:
        workspace.birds(name)
    workspace.run()
    workspace.cli("stop")
    folder = SiteFolder(workspace.fleet() / "sites" / "north")
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    authority = Authority.open(workspace.fleet() / "control" / "ca", past)
    request = signing_request(load_or_make_key(folder.key), "north")
    identity = folder.require_identity()
    old = structs.replace(identity.certificate, certificate_pem=authority.certify_site("north", request, past))
    folder.become(structs.replace(identity, certificate=old))
    assert "expired" in workspace.cli("join", "--detach", "--folder", str(folder.path), code=5)
    said = workspace.cli("join", "--folder", str(folder.path), code=5)
    assert "the certificate of north expired" in said
    assert "archipel invite north" in said
    first = workspace.report()["run"]
    workspace.run()
    assert workspace.report()["run"] != first
    assert folder.require_identity().validity()[1] > dt.datetime.now(dt.UTC)


def test_a_control_plane_with_sites_that_join_by_hand(workspace: Workspace) -> None:
    """Tokens work once, a damaged one is refused, a second control plane on the same state is refused."""
    workspace.birds("north")
    workspace.job()
    state = workspace.folder / ".archipel" / "control"
    assert "in the background" in workspace.cli("up", "--detach", "--http-port", "0", "--sites-port", "0")
    assert "runs already" in workspace.cli("up", "--detach", code=6)
    assert "held by another control plane" in workspace.cli("up", "--http-port", "0", "--sites-port", "0", code=6)
    token = workspace.json("invite", "north")["token"]
    join = ("--data", "birds=data/north", "--folder", "site", "--detach")
    assert "secret is wrong" in workspace.cli("join", _with_other_secret(token), *join, code=5)
    assert "in the background" in workspace.cli("join", token, *join)
    used = workspace.cli("join", token, "--data", "birds=data/north", "--folder", "other", "--detach", code=5)
    assert "has been used" in used
    assert "archipel invite north" in used
    plan = workspace.json("plan", "job/job.toml", "--state", str(state))
    assert plan["cohort_size"] <= 1
    workspace.cli("run", "job/job.toml", "--state", str(state))
    assert operator_of(state).url in workspace.cli("status")
    assert "ended site/site of site" in workspace.cli("stop", "--folder", "site")
    assert "nothing was running" in workspace.cli("stop", "--folder", "site")
    assert "ended control" in workspace.cli("stop")


def _with_other_secret(token: str) -> str:
    from archipel.security.tokens import issue, read_token

    held = read_token(token)
    return issue(held.site, held.control, held.ca, secret=bytes(16), now=0.0)[0]
