"""The private example's presets promise what the page on differential privacy says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archipel.security.privacy import promised, require_private_fit
from archipel.spec import read_job

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/concepts/differential-privacy.md"


@pytest.mark.parametrize("presets", [(), ("private",), ("private", "strict")], ids=" ".join)
def test_a_preset_costs_what_the_page_says(presets: tuple[str, ...]) -> None:
    job = read_job(ROOT / "examples/private/job.toml", presets)
    require_private_fit(job)
    assert job.simulation is not None
    told = promised(job, clients=job.simulation.clients)
    words = " ".join(f"--preset {preset}" for preset in presets) or "(no preset)"
    found = re.search(rf"^\| `?{re.escape(words)}`? \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, words
    if told is None:
        assert found[1] == "none holds"
    else:
        assert told.epsilon == pytest.approx(float(found[1]), rel=0.01)
