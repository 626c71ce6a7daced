"""Moves of a hostile control against a site and the helper of its sums, which are started again before every answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from archipel.security.two_server import Terms
from archipel.security.two_server.messages import Gathered, Invitation
from archipel.site.journal import Journal
from archipel.spec import Refusal, RoundTask, Update, decode, encode
from secure import HELPER, WITH_HELPER, SecureParty, secure_job

SITES = ("ann", "bob", "cid")
VICTIM = "ann"
replace = msgspec.structs.replace


class Scene:
    """A run driven to a leg of the first training round; `tasks` has what victim and helper were asked."""

    def __init__(self, folder: Path) -> None:
        self.party = SecureParty(folder, (*SITES, HELPER))
        quorum = {"absent": "quorum", "quorum": 0.5, "rounds": 1}
        self.machine = self.party.coordinator(secure_job(privacy=WITH_HELPER, federation=quorum))
        self.tasks: dict[str, RoundTask] = {}

    def until(self, leg: str) -> RoundTask:
        def answer(task: RoundTask) -> Update | Refusal | None:
            if task.kind == "train" and task.site in {VICTIM, HELPER}:
                self.tasks[task.leg] = task
                if task.leg == leg:
                    return None
            return self.party.answer(task)

        self.party.drive(self.machine, answer)
        return self.tasks[leg]

    def says(self, task: RoundTask, **changes: object) -> Update | Refusal:
        return self.party.answer(replace(task, **changes))


def plainly(scene: Scene) -> Update | Refusal:
    scene.until("release")
    return scene.says(scene.tasks["compute"], leg=None)


def a_second_set(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    assert isinstance(scene.says(task), Update)
    fewer = Gathered(masked=decode(task.message, Gathered).masked[1:])
    return scene.says(task, message=encode(fewer))


def one_site(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    return scene.says(task, message=encode(Gathered(masked=decode(task.message, Gathered).masked[:1])))


def again_in_another_round(scene: Scene) -> Update | Refusal:
    assert isinstance(scene.says(scene.until("release")), Update)
    terms = decode(scene.tasks["advertise"].message, Terms)
    return scene.says(scene.tasks["advertise"], message=encode(replace(terms, attempt=1)), round=99)


def masks_without_a_session(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    for path in scene.party.sites[HELPER].folder.glob("journal.db*"):
        path.unlink()
    return scene.says(task)


def a_key_for_another_sum(scene: Scene) -> Update | Refusal:
    task = scene.until("advertise")
    return scene.says(task, message=encode(replace(decode(task.message, Terms), round=99)))


def help_from_a_site_of_the_sum(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    return scene.says(task, site=VICTIM)


def a_vector_from_the_helper(scene: Scene) -> Update | Refusal:
    task = scene.until("mask")
    return scene.says(task, site=HELPER)


def another_answer_from_the_site(scene: Scene) -> Update | Refusal:
    """Into the same session, under another key."""
    task = scene.until("mask")
    assert isinstance(scene.says(task), Update)
    invitation = decode(task.message, Invitation)
    forged = replace(invitation, key=replace(invitation.key, channel_key=b"\x09" + bytes(31)))
    return scene.says(task, message=encode(forged))


def an_answer_about_another_model(scene: Scene) -> Update | Refusal:
    """The helper agrees to other terms than the site computed for; both have the very same."""
    task = scene.until("advertise")
    changed = encode(replace(decode(task.message, Terms), model="sha256:" + "0" * 64))
    said = scene.says(task, message=changed)
    assert isinstance(said, Update)
    invitation = encode(
        {"type": "two-server-invitation/1", "terms": decode(changed, dict), "key": decode(said.message, dict)}
    )
    return scene.says(replace(scene.tasks["compute"], leg="mask"), message=invitation, site=VICTIM)


def a_helper_whose_key_is_not_the_pinned_one(scene: Scene) -> Update | Refusal:
    task = scene.until("mask")
    scene.party.sites[VICTIM].pins = {HELPER: scene.party.sites["bob"].key}
    return scene.says(task)


def a_sum_with_sites_it_does_not_know(scene: Scene) -> Update | Refusal:
    task = scene.until("mask")
    scene.party.sites[VICTIM].peers = {name: scene.party.sites[name].key for name in ("bob",)}
    return scene.says(task)


def a_helper_that_asks_for_more_sites(scene: Scene) -> Update | Refusal:
    task = scene.until("release")
    scene.party.sites[HELPER].least_sites = 4
    return scene.says(task)


@dataclass(frozen=True)
class Move:
    make: Callable[[Scene], Update | Refusal]
    words: str


MOVES = (
    Move(plainly, "is asked in plain in a job with secure aggregation"),
    Move(a_second_set, "second-survivor-set"),
    Move(one_site, "too-few-sites"),
    Move(again_in_another_round, "round-released"),
    Move(masks_without_a_session, "out-of-order"),
    Move(a_key_for_another_sum, "weak-terms"),
    Move(help_from_a_site_of_the_sum, "has no part in it"),
    Move(a_vector_from_the_helper, "has no part in it"),
    Move(another_answer_from_the_site, "replayed-session"),
    Move(an_answer_about_another_model, "weak-terms"),
    Move(a_helper_whose_key_is_not_the_pinned_one, "substituted-key"),
    Move(a_sum_with_sites_it_does_not_know, "substituted-key"),
    Move(a_helper_that_asks_for_more_sites, "too-few-sites"),
)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.make.__name__)
@pytest.mark.attack("hostile control", "get an update from a site, or masks from its helper, that is started again")
def test_a_hostile_move_is_refused_by_name(move: Move, tmp_path: Path) -> None:
    said = move.make(Scene(tmp_path))
    assert isinstance(said, Refusal), "it answered"
    assert move.words in said.message


def test_who_is_started_again_says_the_same_bytes_again_and_keeps_the_vector_of_one_sum_at_a_time(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)

    def twice(task: RoundTask) -> Update | Refusal:
        said = scene.party.answer(task)
        assert task.leg in {None, "compute"} or scene.party.answer(task) == said
        return said

    scene.party.drive(scene.machine, twice)
    assert scene.machine.finished
    journal = Journal(scene.party.sites[HELPER].folder / "journal.db")
    assert len(journal.live()) == 1, "that of the last sum"
    journal.close()


def test_the_keys_that_are_pinned_are_believed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    task = scene.until("mask")
    scene.party.sites[VICTIM].pins = {HELPER: scene.party.sites[HELPER].key}
    scene.party.sites[VICTIM].peers = {name: scene.party.sites[name].key for name in ("bob", "cid")}
    assert isinstance(scene.says(task), Update)
