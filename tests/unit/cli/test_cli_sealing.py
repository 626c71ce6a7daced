"""`archipel rekey`: says what opens the folder from now on; one that is not sealed is refused with the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.cli.main import main
from archipel.security.sealing import DEFAULT_KEY, open_sealing


def test_a_folder_gets_another_key_and_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = open_sealing(tmp_path, DEFAULT_KEY)
    assert before is not None
    main(["rekey", str(tmp_path), "--key", "file:other.key"])
    assert "opens with file:other.key from now on" in capsys.readouterr().out
    (tmp_path / "seal.key").unlink()
    after = open_sealing(tmp_path, None)
    assert after is not None
    assert after.data_key == before.data_key


def test_a_folder_that_is_not_sealed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rekey", str(tmp_path)])
    assert ended.value.code == 6
    assert "give the state folder, or the folder of a site" in capsys.readouterr().err
