"""docs/reference/job.md says what the code says: every key, with its default, under its table."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from archipel.spec import JobSpec, encode, privacy, timing
from archipel.spec import job as jobs
from archipel.spec.job import job_from

PAGE = Path(__file__).parents[3] / "docs/reference/job.md"
TABLES = {
    "The top level": JobSpec,
    "`[task]`": jobs.TaskSpec,
    "`[data]`": jobs.DataSpec,
    "`[data.contract]`": jobs.Contract,
    "`[data.contract.columns.NAME]`": jobs.Column,
    "`[federation]`": jobs.FederationSpec,
    "`[federation.robust]`": jobs.RobustSpec,
    "`[federation.compression]`": jobs.CompressionSpec,
    "`[federation.local]`": jobs.LocalTraining,
    "`[evaluation]`": jobs.EvaluationSpec,
    "`[privacy]`": jobs.PrivacySpec,
    "`[privacy.central]`": jobs.CentralPrivacy,
    "`[privacy.central.adaptive]`": privacy.AdaptiveClip,
    "`[privacy.examples]`": jobs.ExamplePrivacy,
    "`[privacy.local]`": jobs.LocalPrivacy,
    "`[privacy.distributed]`": jobs.DistributedPrivacy,
    "`[resources]`": jobs.ResourceSpec,
    "`[deployment]`": jobs.DeploymentSpec,
    "`[simulation]`": jobs.SimulationSpec,
    "`[search]`": jobs.SearchSpec,
    '`[search.parameters."KEY"]`': jobs.SearchParameter,
    '`[simulation.time]` with `mode = "synchronous"`': timing.Synchronous,
    '`[simulation.time]` with `mode = "deadline"`': timing.Deadline,
    '`[simulation.time]` with `mode = "partial"`': timing.Partial,
    '`[simulation.time]` with `mode = "fedbuff"`': timing.FedBuff,
    '`[simulation.time.selection]` with `kind = "uniform"`': timing.ByChance,
    '`[simulation.time.selection]` with `kind = "tiers"`': timing.ByTiers,
    '`[simulation.time.selection]` with `kind = "oort"`': timing.ByUtility,
    "`[simulation.time.devices]`": timing.DeviceSpec,
}


def sections() -> dict[str, str]:
    """Title → text of each section of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, tuple[str, str, str]]:
    """Key → (takes, default, meaning) of the table in a section."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if cells[0].startswith("`"):
            found[cells[0].strip("`")] = (cells[1], cells[2], cells[3])
    return found


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """How the page writes a default."""
    if field.default is not msgspec.NODEFAULT:
        return "none" if field.default is None else f"`{encode(field.default).decode()}`"
    if field.default_factory is msgspec.NODEFAULT:
        return "**required**"
    value = field.default_factory()
    return "a table of defaults" if isinstance(value, msgspec.Struct) else f"`{encode(value).decode()}`"


@pytest.mark.parametrize("title", TABLES)
def test_every_key_of_a_job_is_on_the_page_with_its_default_and_no_key_that_does_not_exist(title: str) -> None:
    written = {key: default for key, (_, default, _) in rows(sections()[title]).items()}
    assert written == {field.name: default_of(field) for field in msgspec.structs.fields(TABLES[title])}


@pytest.mark.parametrize("title", TABLES)
def test_every_key_of_a_job_says_what_it_means_and_names_every_choice(title: str) -> None:
    written = rows(sections()[title])
    for field in msgspec.structs.fields(TABLES[title]):
        takes, _, meaning = written[field.name]
        assert meaning
        for choice in getattr(field.type, "__args__", ()):
            if isinstance(choice, str):
                assert f'`"{choice}"`' in takes


def test_the_pages_cover_every_table_there_is() -> None:
    kinds = [kind for module in (jobs, privacy, timing) for kind in vars(module).values() if isinstance(kind, type)]
    structs = {kind for kind in kinds if issubclass(kind, msgspec.Struct)}
    assert structs - {jobs.Value, privacy.Guarantee, timing.Timed, timing.Selecting} == set(TABLES.values())


def test_the_smallest_job_of_the_page_is_one() -> None:
    first = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[1]
    assert job_from(tomllib.loads(first)).task.code == "task.py:Birds"
