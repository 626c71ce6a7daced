"""The page on secure aggregation names every reason to abort, and the table of neighbours that the code finds."""

from __future__ import annotations

import re
from pathlib import Path

from archipel.security import secagg
from archipel.security.secagg import Assumptions, Reason, shape_for

PAGE = (Path(__file__).parents[3] / "docs/concepts/secure-aggregation.md").read_text(encoding="utf-8")


def test_every_reason_is_on_the_page_and_no_other() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, flags=re.MULTILINE) == [str(reason) for reason in Reason]


def test_the_table_of_neighbours_is_what_is_found() -> None:
    columns = [(0.05, 0.10), (0.10, 0.10), (0.10, 0.30), (0.20, 0.20)]
    rows = re.findall(r"^\| ([\d,]+) \| (\d.*) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 4
    for sites, cells in rows:
        for cell, (corrupt, dropout) in zip(cells.split("|"), columns, strict=True):
            shape = shape_for(int(sites.replace(",", "")), Assumptions(corrupt=corrupt, dropout=dropout))
            assert [int(number) for number in re.findall(r"\d+", cell)] == [shape.neighbours, shape.threshold]


def test_what_is_public_is_listed() -> None:
    assert all(hasattr(secagg, name) for name in secagg.__all__)
