"""What of a user's exception crosses the border: place and kind, never its text."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from archipel.site.worker.__main__ import _without_data
from archipel.spec import ArchipelError, DataError, TaskError
from archipel.tasks.guard import user_code

SECRET = "patient 4711"


class Case(msgspec.Struct):
    error: BaseException
    crosses: str


CASES = [
    Case(ValueError(SECRET), "ValueError"),
    Case(ValueError(f"{SECRET}: "), "ValueError"),
    Case(ValueError(f"  {SECRET}"), "ValueError"),
    Case(KeyError(SECRET), "KeyError"),
    Case(AssertionError(f"ValueError {SECRET}"), "AssertionError"),
    Case(ValueError(), "ValueError"),
    Case(SystemExit(SECRET), "SystemExit"),
    *(
        Case(kind(f"bad age of {SECRET}"), kind.__name__)
        for kind in (TypeError, NameError, AttributeError, ImportError, SyntaxError, NotImplementedError)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case.error))
@pytest.mark.attack(
    "curious control",
    "read rows in the text of an exception",
    open="can write rows into the update, into sums, or into the class name of an exception",
)
def test_the_text_stays_and_the_kind_crosses(case: Case) -> None:
    with pytest.raises(TaskError) as caught, user_code("read", Path("/nowhere")):
        raise case.error
    said = _without_data(caught.value)
    assert case.crosses in said.message
    assert SECRET not in said.message + said.hint


@pytest.mark.parametrize("error", [DataError("no column 'x'", hint="h"), TaskError("no file", hint="h")])
def test_our_own_words_cross_as_they_are(error: ArchipelError) -> None:
    assert _without_data(error) is error
