"""Archipel as a contender: control and a site agent each in a process of its own, mutual TLS on loopback.

Two runs of different length in the same federation: the difference is what the additional rounds cost, without the
start of anything. The control plane and the sites are started and joined as an operator does it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from archipel.cli.client import Client
from archipel.cli.planes import operator_of
from archipel.data.bundle import pack_bundle
from archipel.spec import ArchipelError
from archipel.spec.job import job_from
from rounds.measure import START_SECONDS, ContenderError, Tree, wait_until
from rounds.result import Cost, Workload

JOB = Path(__file__).parent / "noop_job"
SHORT_ROUNDS = 2
POLL_SECONDS = 1.0
"""Asking costs control CPU time, which is counted."""
_COMMAND = [sys.executable, "-m", "archipel.cli.main"]
_ENDED = {"finished", "failed", "stopped"}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What control and the sites are told."""

    require: str | None = None
    """Of the sandbox in each site's policy; None: the sites have none."""
    key: str = "none"
    """URL of the key that everything at rest is sealed under."""

    @property
    def sealed(self) -> list[str]:
        """Words that are added to up and join."""
        return ["--key", self.key]


PLAIN = Setting()


def measure(workload: Workload, folder: Path, setting: Setting = PLAIN) -> Cost:
    """Run SHORT_ROUNDS, then as many and `workload.rounds` more, and return the difference a round."""
    tree = Tree()
    try:
        with _start(tree, workload, folder, setting) as client:
            first = _cpu_seconds_of(tree, client, workload, SHORT_ROUNDS, seed=1)
            second = _cpu_seconds_of(tree, client, workload, SHORT_ROUNDS + workload.rounds, seed=2)
        peaks = {
            "control": tree.peak_bytes(r"archipel\.control "),
            "site": tree.peak_bytes(r"archipel\.site "),
            "worker": tree.peak_bytes(r"archipel\.site\.worker"),
        }
        return Cost(cpu_seconds=(second - first) / workload.rounds, peak_bytes=peaks)
    finally:
        tree.stop()


def _start(tree: Tree, workload: Workload, folder: Path, setting: Setting) -> Client:
    state = folder / "state"
    up = [*_COMMAND, "up", "--state", str(state), "--http-port", "0", "--sites-port", "0", *setting.sealed]
    tree.start(up, log=folder / "control.log", cwd=folder)
    client = _when_it_answers(state)
    (folder / "rows.csv").write_text("x\n1\n", encoding="utf-8")
    for index in range(workload.sites):
        token, home = client.invite(f"site{index}").token, folder / f"s{index}"
        if setting.require is not None:
            home.mkdir()
            (home / "policy.toml").write_text(f'[sandbox]\nrequire = "{setting.require}"\n', encoding="utf-8")
        data = ["--data", f"noop={folder / 'rows.csv'}", "--folder", str(home)]
        join = [*_COMMAND, "join", token, *data, *setting.sealed]
        tree.start(join, log=folder / f"site{index}.log", cwd=folder)
    wait_until(
        lambda: [site.presence for site in client.sites()].count("here") == workload.sites, START_SECONDS, "the sites"
    )
    return client


def _when_it_answers(state: Path) -> Client:
    def answers() -> bool:
        try:
            with Client(operator_of(state)) as client:
                client.sites()
        except ArchipelError:
            return False
        return True

    wait_until(answers, START_SECONDS, "control")
    return Client(operator_of(state))


def _cpu_seconds_of(tree: Tree, client: Client, workload: Workload, rounds: int, *, seed: int) -> float:
    document = {
        "name": f"noop-{seed}",
        "task": {"code": "task.py:Noop", "options": {"width": (workload.parameters - 2) // 4}},
        "data": {"dataset": "noop"},
        "federation": {"rounds": rounds, "seed": seed, "min_sites": workload.sites},
    }
    job = job_from(document)
    bundle = client.upload_bundle(pack_bundle(JOB, job.task.include))
    before = tree.cpu_seconds()
    run = client.start(job, bundle.digest)
    while (run := client.run(run.id)).state not in _ENDED:
        tree.watch_memory()
        time.sleep(POLL_SECONDS)
    if run.state != "finished":
        raise ContenderError(f"the run {run.state}: {run.message}")
    return tree.cpu_seconds() - before
