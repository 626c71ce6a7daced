"""Flower as a contender: SuperLink and SuperNodes over TLS on loopback, each with its own folder, pip's `flwr`.

Flower starts a process for every message and gives no client certificates; its nodes talk HTTPS to the SuperLink.
The processes of one machine talk HTTPS among themselves too, because a SuperNode either does both or neither.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from environments import ROOT, environment
from rounds.identities import write_identities
from rounds.measure import START_SECONDS, ContenderError, Tree, wait_until
from rounds.result import Cost, Workload

VERSION = "1.41.0"
HOME = ROOT / ".venv-bench/flower"
APP = Path(__file__).parent / "flower_app"
_FIRST_PORT = 17800
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


def install() -> None:
    """Make Flower's own environment, once."""
    environment("flower", f"flwr=={VERSION}")


def measure(workload: Workload, folder: Path) -> Cost:
    """Run the rounds once; what came before the first round's end is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = Tree()
    try:
        return _run(tree, workload, folder.absolute())
    finally:
        tree.stop()


def _run(tree: Tree, workload: Workload, folder: Path) -> Cost:
    write_identities(folder / "tls", ("server",))
    _start(tree, workload, folder)
    marks = folder / "marks"
    marks.touch()
    _submit(workload, folder, marks)
    _wait_for_round(tree, marks, 1)
    cpu_before = tree.cpu_seconds()
    _wait_for_round(tree, marks, workload.rounds + 1)
    cpu_seconds = (tree.cpu_seconds() - cpu_before) / workload.rounds
    peaks = {"ServerApp": tree.peak_bytes("flwr-serverapp"), "SuperLink": tree.peak_bytes("flower-superlink")}
    return Cost(cpu_seconds=cpu_seconds, peak_bytes=peaks)


def _start(tree: Tree, workload: Workload, folder: Path) -> None:
    binaries = HOME.absolute() / "bin"
    env = {**_QUIET, "PATH": f"{binaries}:/usr/bin:/bin"}
    tls = folder / "tls"
    server = ["--ssl-ca-certfile", tls / "ca.pem", "--ssl-certfile", tls / "server.pem", "--ssl-keyfile"]
    own_tls = [str(part) for part in (*server, tls / "server.key")]
    link = [str(binaries / "flower-superlink"), "--port", str(_FIRST_PORT), "--disable-runtime-dependency-installation"]
    tree.start([*link, *own_tls], log=folder / "superlink.log", env={**env, "FLWR_HOME": str(folder / "link")})
    wait_until(lambda: _says(folder / "superlink.log", "startup complete"), START_SECONDS, "Flower's SuperLink")
    for index in range(workload.sites):
        node = [str(binaries / "flower-supernode"), "--superlink", f"127.0.0.1:{_FIRST_PORT}"]
        where = ["--root-certificates", str(tls / "ca.pem"), "--port", str(_FIRST_PORT + 1 + index)]
        home = {**env, "FLWR_HOME": str(folder / f"node{index}")}
        tree.start([*node, *where, *own_tls], log=folder / f"node{index}.log", env=home)


def _submit(workload: Workload, folder: Path, marks: Path) -> None:
    home = folder / "operator"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "bench"\n[superlink.bench]\n'
        f'address = "127.0.0.1:{_FIRST_PORT}"\nroot-certificates = "{folder / "tls/ca.pem"}"\n'
    )
    config = f"parameters={workload.parameters} rounds={workload.rounds + 1} sites={workload.sites} marks='{marks}'"
    command = [str(HOME.absolute() / "bin/flwr"), "run", str(APP), "bench", "--run-config", config]
    env = {**_QUIET, "FLWR_HOME": str(home), "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(command, env=env, capture_output=True, check=False)
    if answer.returncode:
        raise ContenderError(f"flwr run failed: {(answer.stdout + answer.stderr).decode()[-1500:]}")


def _wait_for_round(tree: Tree, marks: Path, number: int) -> None:
    def reached() -> bool:
        tree.watch_memory()
        return str(number) in marks.read_text().split()

    wait_until(reached, 600, f"Flower's round {number}")


def _says(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text(errors="replace")
