"""Kill control, or a site's agent, in every leg of a secure sum: the run ends with the model of an undisturbed one.

Control is killed between the commit that closes a leg and what follows from it; an agent before each step of its
session, and around the transaction that keeps the session. The names are read from the source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from archipel.federated.coordinator import Coordinator
from archipel.federated.folding import carry_out
from archipel.federated.port import Ask, Finish, Fold, SiteRefused, UpdateAccepted
from archipel.federated.secure.legs import PROTOCOL
from archipel.security import load_or_make_key
from archipel.simulation.secure import secure_sites
from archipel.site.worker.execute import Worker
from archipel.site.worker.memory import RunMemory
from archipel.spec import JobSpec, RoundTask, Update
from integration.test_control_runs import NAMES, attended
from integration.test_failpoints import LEGS
from integration.test_site_crashes import SECURE, died
from secure import HELPER, WITH_HELPER, SecureAnswers, secure_job
from unit.control.control_plane import Plane, make_bundle
from unit.site.site_fakes import SITE, AgentProcess, FakeControl, make_job, put_bundle, write_birds

BY_SHARES = {"secure_aggregation": "secagg"}


async def control_with(folder: Path, failpoints: Sequence[str], privacy: dict[str, str]) -> tuple[bytes, int]:
    """Run a job while control dies at each of `failpoints`; return the model's bytes and the deaths."""
    helpers = (privacy["helper"],) if "helper" in privacy else ()
    environment = {"ARCHIPEL_FAILPOINT": f"{','.join(failpoints)}@{folder / 'died'}"} if failpoints else {}
    async with Plane(folder / "state", environment) as plane, attended(plane, folder, (*NAMES, *helpers)) as sites:
        answers = []
        for site in sites:
            pem, authority = site.credentials.certificate_pem.decode(), site.credentials.ca_pem.decode()
            key = load_or_make_key(key_of(folder, site.name))
            site.answer = SecureAnswers(site.name, folder / "sites", key, pem, authority)
            answers.append(site.answer)
        run = await plane.start(secure_job(federation={"rounds": 1}, privacy=privacy), make_bundle(folder / "job"))
        await plane.until(run, "finished")
        weights = (await plane.insist("GET", "/v1/models/birds/1/weights")).content
        report = await plane.report(run)
        await plane.end()
    sent = {(item.phase, item.part) for item in report.disclosures}
    assert ("train", "masked") in sent
    assert not {("train", "delta"), ("statistics", "sums"), ("evaluate", "sums")} & sent
    kept = {path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file()}
    plain = set().union(*(answer.plain for answer in answers))
    assert plain
    assert not [data for data in plain if any(data in one for one in kept)], "an update in plain reached control"
    return weights, plane.deaths


def key_of(folder: Path, site: str) -> Path:
    """Where `attended` has put a site's key."""
    return next(folder.rglob(f"{site}.key"))


@pytest.mark.attack("crash", "change or open a secure sum by a kill of control in each leg", result="survived")
async def test_control_killed_after_each_leg_ends_with_the_same_model(tmp_path: Path) -> None:
    undisturbed, none = await control_with(tmp_path / "undisturbed", (), BY_SHARES)
    assert none == 0
    with_helper = ["control.leg.mask", "control.leg.release"]  # the others are no different from SecAgg+'s
    for privacy, legs in ((BY_SHARES, LEGS), (WITH_HELPER, with_helper)):
        folder = tmp_path / privacy["secure_aggregation"]
        weights, deaths = await control_with(folder, legs, privacy)
        assert sorted((folder / "died").read_text().split()) == sorted(legs)
        assert deaths == len(legs)
        assert weights == undisturbed


class Others:
    """The sites beside the agent, in this process."""

    def __init__(self, control: FakeControl, data: Path, names: Sequence[str]) -> None:
        self.names = names
        self._secure = secure_sites(names, control.authority, control.spool)
        self._workers = {name: Worker(name, {"birds": data}, control.spool, RunMemory()) for name in names}

    def answer(self, task: RoundTask) -> Update:
        secure = self._secure[task.site]
        if task.leg in PROTOCOL:
            return secure.speak(task)[0]
        update = self._workers[task.site].execute(task, lambda _: None)
        return update if task.leg is None else secure.prepare(task, update)[0]


async def agent_with(
    folder: Path, failpoints: Sequence[str], privacy: dict[str, str], others: Sequence[str] = ("ann", "bob")
) -> str:
    """Run a job with an agent that dies at each of `failpoints`, beside others; return the digest of the model.

    There is no agent where its name is among the others.
    """
    environment = {"ARCHIPEL_FAILPOINT": f"{','.join(failpoints)}@{folder / 'died'}"} if failpoints else {}
    data = write_birds(folder / "data")
    job = make_job(
        federation={"rounds": 1, "min_sites": 3},
        privacy=privacy,
        evaluation={"personalise_epochs": 0},
        deployment={"serve": "none"},
    )
    async with FakeControl(folder / "control") as control:
        if SITE in others:
            return await drive(control, job, folder, Others(control, data, others))
        place = control.enrol(folder / "site", {"birds": data})
        agent = AgentProcess(place.path, **environment)

        async def keep_alive() -> None:
            while True:
                await agent.start()
                assert agent.process is not None
                if await agent.process.wait() != -9:
                    return

        living = asyncio.create_task(keep_alive())
        model = await drive(control, job, folder, Others(control, data, others))
        await agent.end()
        await living
    return model


async def drive(control: FakeControl, job: JobSpec, folder: Path, others: Others) -> str:
    bundle = put_bundle(control.spool, folder / "job")
    machine = Coordinator(
        "run-1", job, bundle, sorted({SITE, *others.names} - {*job.helpers}), authority=control.authority.pem
    )
    todo = list(machine.start())
    while todo:
        match todo.pop(0):
            case Ask(task=task) if task.site not in others.names:
                control.assign(task)
                said = await control.answered(task)
                kind = UpdateAccepted if isinstance(said, Update) else SiteRefused
                todo += machine.handle(kind(said))
            case Ask(task=task):
                todo += machine.handle(UpdateAccepted(update=others.answer(task)))
            case Fold() as fold:
                todo += machine.handle(carry_out(fold, job.federation, control.spool))
            case Finish(model=model):
                return model.digest
            case other:
                pytest.fail(f"the run stands still: {other}")
    raise AssertionError("nothing is asked, and the run is not over")


@pytest.mark.attack("crash", "change or open a secure sum by a kill of a site in each leg", result="survived")
async def test_an_agent_killed_in_each_leg_ends_with_the_same_model(tmp_path: Path) -> None:
    undisturbed = await agent_with(tmp_path / "undisturbed", (), BY_SHARES)
    assert await agent_with(tmp_path / "killed", SECURE, BY_SHARES) == undisturbed
    assert sorted(died(tmp_path / "killed")) == sorted(SECURE)


ONE_ANSWER = [name for name in SECURE if name in {"site.leg.compute", "site.leg.mask"} or "session" in name]
HELPING = [name for name in SECURE if name in {"site.leg.advertise", "site.leg.release"} or "session" in name]


@pytest.mark.attack("crash", "change or open a secure sum by a kill of a site or its helper", result="survived")
@pytest.mark.parametrize("helper", [HELPER, SITE], ids=["site", "helper"])
async def test_a_site_or_helper_killed_in_each_leg_ends_with_the_same_model(helper: str, tmp_path: Path) -> None:
    privacy, failpoints = {**WITH_HELPER, "helper": helper}, HELPING if helper == SITE else ONE_ANSWER
    others = ("ann", "bob", "cid" if helper == SITE else HELPER)
    undisturbed = await agent_with(tmp_path / "undisturbed", (), privacy, (*others, SITE))
    assert await agent_with(tmp_path / "killed", failpoints, privacy, others) == undisturbed
    assert sorted(died(tmp_path / "killed")) == sorted(failpoints)
