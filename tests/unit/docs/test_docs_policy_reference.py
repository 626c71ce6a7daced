"""docs/reference/policy.md says what the code says: every key of a site's policy, with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from archipel.spec import policy
from archipel.spec.policy import read_policy
from unit.docs.test_docs_job_reference import default_of, rows

PAGE = Path(__file__).parents[3] / "docs/reference/policy.md"
TABLES = {
    "The top level": policy.SitePolicy,
    "`[work]`": policy.WorkRules,
    "`[epsilon]`": policy.EpsilonRules,
    "`[hours]`": policy.Hours,
    "`[sandbox]`": policy.SandboxRules,
    "`[limits]`": policy.Limits,
}


def section(title: str) -> str:
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


@pytest.mark.parametrize("title", TABLES)
def test_every_key_of_a_policy_is_on_the_page_with_its_default_and_no_key_that_does_not_exist(title: str) -> None:
    written = rows(section(title))
    assert {key: default for key, (_, default, _) in written.items()} == {
        field.name: default_of(field) for field in msgspec.structs.fields(TABLES[title])
    }
    for field in msgspec.structs.fields(TABLES[title]):
        takes, _, meaning = written[field.name]
        assert meaning
        for choice in getattr(field.type, "__args__", ()):
            assert not isinstance(choice, str) or f'`"{choice}"`' in takes


def test_the_pages_cover_every_table_there_is() -> None:
    kinds = {kind for kind in vars(policy).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    assert {kind for kind in kinds if kind.__module__ == policy.__name__} == set(TABLES.values())


def test_the_policies_of_the_pages_are_valid() -> None:
    shown = [
        text
        for page in (PAGE, PAGE.parents[1] / "howto/site-policy.md")
        for text in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    ]
    assert len(shown) >= 3
    for text in shown:
        assert tomllib.loads(text)
        read_policy(text.encode(), "policy.toml")
