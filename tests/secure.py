"""Sites under secure aggregation, for tests: real sessions over real journals, and updates made by arithmetic.

party = SecureParty(folder, ["ann", "bob", "cid"])
update = party.answer(task)                  the site's own answer, or a refusal, as an agent would give it

Every answer is given by a site that has just been started again: what it knows is what its journal says.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from archipel.data.stores.spool import Spool
from archipel.federated.coordinator import Coordinator
from archipel.federated.folding import carry_out
from archipel.federated.port import Ask, Finish, Fold, GiveUp, SiteRefused, UpdateAccepted
from archipel.federated.secure.legs import PROTOCOL
from archipel.security import Authority, key_digest, load_or_make_key, signing_request
from archipel.security.keys import PrivateKey
from archipel.site.journal import Journal
from archipel.site.worker.secure import SecureSite
from archipel.spec import ArchipelError, JobSpec, Refusal, RoundTask, Update
from archipel.spec.job import job_from
from unit.control.control_sites import answer as made_up

ROUNDS = 2
Answer = Callable[[RoundTask], "Update | Refusal | None"]


def secure_job(**tables: Any) -> JobSpec:
    """A small job with secure aggregation."""
    document: dict[str, Any] = {
        "name": "birds",
        "task": {"code": "task.py:Birds"},
        "data": {"dataset": "birds"},
        "federation": {"rounds": ROUNDS, "min_sites": 3},
        "privacy": {"secure_aggregation": "secagg", "update_range": 2.0},
    }
    for table, values in tables.items():
        document[table] = {**document.get(table, {}), **values}
    return job_from(document)


HELPER = "notary"
WITH_HELPER = {"secure_aggregation": "two-server", "helper": HELPER}


class SecureAnswers:
    """What a site answers; also in the place of a ScriptedSite's `answer`."""

    def __init__(self, name: str, folder: Path, key: PrivateKey, certificate: str, authority: str) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.spool = Spool(self.folder / "spool")
        self._identity = (key, certificate, authority)
        self.key = key_digest(key.public_key())
        self.least_sites = 3
        """What the site's own policy asks for."""
        self.peers: dict[str, str] | None = None
        """Keys of the only sites that it believes."""
        self.pins: dict[str, str] = {}
        """Keys of helpers that it knows."""
        self.plain: set[bytes] = set()
        """Files of the site's own answers, which nobody else may see."""

    @contextlib.contextmanager
    def started(self) -> Iterator[SecureSite]:
        """The site's side of secure aggregation, as its journal leaves it."""
        key, certificate, authority = self._identity
        journal = Journal(self.folder / "journal.db")
        try:
            own = (self.name, key, lambda: certificate, authority, journal, self.spool, time.time)
            policy = {"least_sites": lambda: self.least_sites, "peers": lambda: self.peers, "helper_pin": self.pins.get}
            yield SecureSite(*own, **policy, noise_key=self.folder / "noise.key")
        finally:
            journal.close()

    def __call__(
        self, site: Any, task: RoundTask, blobs: dict[str, bytes]
    ) -> tuple[Update | Refusal, dict[str, bytes]]:
        try:
            with self.started() as secure:
                return self._answer(secure, site, task, blobs)
        except ArchipelError as error:
            return Refusal.of(task, error), {}

    def _answer(
        self, secure: SecureSite, site: Any, task: RoundTask, blobs: dict[str, bytes]
    ) -> tuple[Update | Refusal, dict[str, bytes]]:
        if task.leg in PROTOCOL:
            said, _ = secure.speak(task)
            return said, {name: self._read(part.blob.digest) for name, part in said.parts.items()}
        secure.require_allowed(task)
        update, parts = made_up(site, task, blobs)
        if task.leg is None:
            return update, parts
        assert isinstance(update, Update)
        for data in parts.values():
            self.spool.put(data)
            self.plain.add(data)
        return secure.prepare(task, update)[0], {}

    def _read(self, digest: str) -> bytes:
        return self.spool.require(digest).read_bytes()


class SecureParty:
    """Sites under one authority, and control's spool."""

    def __init__(self, folder: Path, names: Sequence[str], *, size: int = 50) -> None:
        now = dt.datetime.now(dt.UTC)
        self.authority = Authority.open(folder / "ca", now)
        self.spool = Spool(folder / "control")
        self.size = size
        self.sites: dict[str, SecureAnswers] = {}
        for name in names:
            key = load_or_make_key(folder / f"{name}.key")
            certificate = self.authority.certify_site(name, signing_request(key, name), now)
            self.sites[name] = SecureAnswers(name, folder, key, certificate, self.authority.pem)

    def coordinator(self, job: JobSpec) -> Coordinator:
        bundle = self.spool.put(b"the task's code")
        sites = [name for name in self.sites if name not in job.helpers]
        return Coordinator("run-1", job, bundle, sites, authority=self.authority.pem)

    def answer(self, task: RoundTask) -> Update | Refusal:
        """Let the site of a task answer; what it sends lies in control's spool."""
        site = SimpleNamespace(name=task.site, size=self.size, dataset="birds")
        wanted = {"model": task.model, **{f"model/{one.name}": one.blob for one in task.models}}
        blobs = {name: self.spool.require(blob.digest).read_bytes() for name, blob in wanted.items() if blob}
        said, parts = self.sites[task.site](site, task, blobs)
        for data in parts.values():
            self.spool.put(data)
        return said

    def drive(self, machine: Coordinator, answer: Answer | None = None) -> Finish | GiveUp | None:
        """Carry out everything until the run ends; None: sites are silent (`answer` returns None for them)."""
        todo = list(machine.outstanding())
        while todo:
            match todo.pop(0):
                case Ask(task=task):
                    said = (answer or self.answer)(task)
                    if isinstance(said, Update) and machine.receipt(said) == "accepted":
                        todo += machine.handle(UpdateAccepted(update=said))
                    elif isinstance(said, Refusal) and machine.receipt(said) == "accepted":
                        todo += machine.handle(SiteRefused(refusal=said))
                case Fold() as fold:
                    todo += machine.handle(carry_out(fold, machine_job(machine).federation, self.spool))
                case Finish() | GiveUp() as end:
                    return end
        return None


def machine_job(machine: Coordinator) -> JobSpec:
    """The job of a coordinator under test."""
    return machine._job
