"""Moves of a hostile control plane against a site's own code, which is started again before every answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from archipel.federated.secure.legs import LEGS
from archipel.security.secagg import Terms
from archipel.security.secagg.messages import Survivors
from archipel.spec import Refusal, RoundTask, Update, decode, encode
from secure import SecureParty, secure_job

SITES = ("ann", "bob", "cid", "dot")
VICTIM = "ann"


class Scene:
    """A run driven to a leg of the victim's in the first training round; `tasks` has what the victim was asked."""

    def __init__(self, folder: Path) -> None:
        self.party = SecureParty(folder, SITES)
        self.machine = self.party.coordinator(secure_job(federation={"rounds": 1}))
        self.tasks: dict[str, RoundTask] = {}

    def until(self, leg: str) -> RoundTask:
        def answer(task: RoundTask) -> Update | Refusal | None:
            if task.kind == "train" and task.site == VICTIM:
                self.tasks[task.leg] = task
                if task.leg == leg:
                    return None
            return self.party.answer(task)

        self.party.drive(self.machine, answer)
        return self.tasks[leg]

    def says(self, task: RoundTask) -> Update | Refusal:
        return self.party.answer(task)


def changed(task: RoundTask, **fields: object) -> RoundTask:
    return msgspec.structs.replace(task, **fields)


def plainly(scene: Scene) -> Update | Refusal:
    task = scene.until("advertise")
    return scene.says(changed(scene.tasks["compute"], leg=None, round=task.round))


def plainly_in_another_job(scene: Scene) -> Update | Refusal:
    scene.until("share")
    job = secure_job(privacy={"secure_aggregation": "none"})
    return scene.says(changed(scene.tasks["compute"], leg=None, job=job))


def lower_threshold(scene: Scene) -> Update | Refusal:
    task = scene.until("advertise")
    terms = decode(task.message, Terms)
    shape = msgspec.structs.replace(terms.shape, threshold=2)
    return scene.says(changed(task, message=encode(msgspec.structs.replace(terms, shape=shape))))


def of_another_sum(scene: Scene) -> Update | Refusal:
    task = scene.until("advertise")
    terms = decode(task.message, Terms)
    return scene.says(changed(task, message=encode(msgspec.structs.replace(terms, round=99))))


def second_survivors(scene: Scene) -> Update | Refusal:
    task = scene.until("consent")
    assert isinstance(scene.says(task), Update)
    return scene.says(changed(task, message=encode(Survivors(sites=(VICTIM, "bob", "cid")))))


def release_without_consents(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    first = msgspec.json.decode(task.message)
    first["consents"] = first["consents"][:1]
    return scene.says(changed(task, message=encode(first)))


def again_after_release(scene: Scene) -> Update | Refusal:
    assert isinstance(scene.says(scene.until("release")), Update)
    terms = decode(scene.tasks["advertise"].message, Terms)
    again = msgspec.structs.replace(terms, attempt=terms.attempt + 1)
    return scene.says(changed(scene.tasks["advertise"], message=encode(again), round=99))


def the_same_session_over(scene: Scene) -> Update | Refusal:
    task = scene.until("consent")
    scene.says(changed(task, message=encode(Survivors(sites=(VICTIM, "bob", "cid", "dot")))))
    terms = decode(scene.tasks["advertise"].message, Terms)
    other = msgspec.structs.replace(terms, attempt=7)
    scene.says(changed(scene.tasks["advertise"], message=encode(other), round=98))
    return scene.says(changed(scene.tasks["advertise"], round=99))


@dataclass(frozen=True)
class Move:
    make: Callable[[Scene], Update | Refusal]
    words: str


MOVES = (
    Move(plainly, "is asked in plain in a job with secure aggregation"),
    Move(plainly_in_another_job, "is asked in plain in a run that had secure aggregation"),
    Move(lower_threshold, "weak-terms"),
    Move(of_another_sum, "weak-terms"),
    Move(second_survivors, "second-survivor-set"),
    Move(release_without_consents, "split-view"),
    Move(again_after_release, "round-released"),
    Move(the_same_session_over, "replayed-session"),
)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.make.__name__)
@pytest.mark.attack(
    "hostile control",
    "get an update from a site that is started again before each answer",
    open="A site refuses plain questions in a run that has had secure sums",
)
def test_a_hostile_move_is_refused_by_name(move: Move, tmp_path: Path) -> None:
    said = move.make(Scene(tmp_path))
    assert isinstance(said, Refusal), "the site answered"
    assert move.words in said.message


@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_site_started_again_says_the_same_bytes_again(leg: str, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    task = scene.until(leg)
    said = scene.says(task)
    assert isinstance(said, Update)
    assert scene.says(task) == said


def test_a_site_that_lost_its_journal_is_a_drop_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    task = scene.until("mask")
    for path in (tmp_path / VICTIM).glob("journal.db*"):
        path.unlink()
    said = scene.says(task)
    assert isinstance(said, Refusal)
    assert "has computed nothing to add" in said.message


@pytest.mark.parametrize(("least", "says"), [(3, Update), (4, Refusal), (5, Refusal)])
def test_a_site_keeps_out_of_a_sum_of_fewer_sites_than_its_own_policy_asks_for(
    least: int, says: type, tmp_path: Path
) -> None:
    """There are four, and one may drop out."""
    scene = Scene(tmp_path)
    task = scene.until("advertise")
    scene.party.sites[VICTIM].least_sites = least
    said = scene.says(task)
    assert type(said) is says
    if isinstance(said, Refusal):
        assert said.message.startswith(f"small-cohort: 4 sites with a quorum of 3, and the policy asks for {least}")


@pytest.mark.attack("hostile control", "certify a stranger as a peer of a site whose policy names its peers' keys")
@pytest.mark.parametrize("case", ["known", "another key", "a stranger"])
def test_a_site_whose_policy_names_its_peers_keys_believes_no_other_whoever_certified_it(
    case: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("tries", int(case != "known"))
    scene = Scene(tmp_path)
    sites = scene.party.sites
    peers = {name: site.key for name, site in sites.items() if name != VICTIM}
    one, *_ = peers
    if case == "another key":
        peers[one] = sites[VICTIM].key
    elif case == "a stranger":
        del peers[one]
    task = scene.until("share")
    sites[VICTIM].peers = peers
    said = scene.says(task)
    if case == "known":
        assert isinstance(said, Update)
    else:
        assert isinstance(said, Refusal)
        assert said.message.startswith("substituted-key: ")
        assert f"the key of {one} is not the pinned one, or none is pinned" in said.message
