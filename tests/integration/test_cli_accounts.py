"""Accounts as people meet them: the real `archipel`, against a control plane that serves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archipel.cli.commands.people import login
from archipel.security import fingerprint
from archipel.spec import SpecError
from unit.control.control_house import Home, at_home

PASSWORD = "correct horse staple\n"


async def archipel(folder: Path, *words: str, said: str = "", state: Path | None = None) -> tuple[int, str]:
    """Run a command in `folder`; return its exit code and all it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "ARCHIPEL_STATE"}
    if state is not None:
        environment["ARCHIPEL_STATE"] = str(state)
    command = [sys.executable, "-m", "archipel.cli.main", *words]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, input=said, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


async def log_in(home: Home, folder: Path, ca: str | None = None) -> tuple[int, str]:
    seen = ca or fingerprint(home.operator.ca_pem)
    return await archipel(folder, "login", "ana", "--control", home.operator.url, "--ca", seen, said=PASSWORD)


async def test_a_viewer_logs_in_from_elsewhere_and_is_told_who_may_stop_a_run(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with at_home(tmp_path) as home:
        state = home.house.settings.state
        code, printed = await archipel(tmp_path, "user", "add", "ana", "--role", "viewer", said=PASSWORD, state=state)
        assert code == 0, printed
        ca = fingerprint(home.operator.ca_pem)
        assert f"archipel login ana --control {home.operator.url} --ca {ca}" in printed

        code, printed = await log_in(home, elsewhere, ca="0" * 64)
        assert (code, "is not the control plane that was meant" in printed) == (5, True)
        assert not (elsewhere / ".archipel").exists()
        code, printed = await log_in(home, elsewhere)
        assert code == 0, printed
        [file] = elsewhere.glob(".archipel/logins/*/operator.json")
        assert file.stat().st_mode & 0o777 == 0o600
        assert PASSWORD.strip() not in file.read_text()

        code, printed = await archipel(elsewhere, "stop", "some-run")
        assert code == 5
        may = "roles that may: scientist, operator and admin; ask one of them"
        assert printed.splitlines() == [
            "error: ana is viewer here and may not stop or resume runs",
            f"next:  {may}, or an admin for `archipel user role ana scientist`",
        ]
        code, printed = await archipel(tmp_path, "user", "remove", "ana", state=state)
        assert (code, printed) == (0, "ana is removed; 1 log-ins ended\n")
        code, printed = await archipel(elsewhere, "status")
        assert code == 5
        assert "the bearer token is not known, or has ended" in printed
        assert "log in again with `archipel login`" in printed
        code, printed = await archipel(elsewhere, "logout")
        assert (code, printed) == (0, "ana is logged out\n")
        assert not file.exists()
        assert not (elsewhere / ".archipel" / "current").exists()


@pytest.mark.parametrize(("name", "issuer"), [(None, False), ("ana", True)])
def test_either_a_name_or_the_issuer_is_needed(name: str | None, *, issuer: bool) -> None:
    with pytest.raises(SpecError) as refused:
        login(name, issuer=issuer)
    assert "archipel login --issuer" in refused.value.hint
