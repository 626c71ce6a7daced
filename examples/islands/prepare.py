"""Lays out the Palmer Archipelago penguins for a run with local sites: one folder an island.

The data come from the PyPI package `palmerpenguins` (CC0; Horst, Hill and Gorman 2020, measured by Kristen Gorman at
Palmer Station). Its file is read and the package is not imported, for that would draw in pandas.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from archipel.spec import DataError

Row = dict[str, str]
FILE = "penguins.csv"


def prepare(target: Path, data: Path | None) -> None:
    """Write `target`/ISLAND/penguins.csv, rows in the order of the source."""
    for island, rows in read_islands(data).items():
        file = target / island / FILE
        file.parent.mkdir(parents=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        print(f"{island}: {len(rows)} penguins")


def read_islands(data: Path | None) -> dict[str, list[Row]]:
    """Return island → its rows; `data` is a folder with penguins.csv, None: the installed package's."""
    islands: defaultdict[str, list[Row]] = defaultdict(list)
    with find_file(data).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            islands[row["island"].lower()].append(row)
    return dict(islands)


def find_file(data: Path | None) -> Path:
    """Return where penguins.csv is.

    Raises:
        DataError: it is not in `data`, or the package is not installed.
    """
    package = find_spec("palmerpenguins")
    if data is None and (package is None or package.origin is None):
        raise DataError("the penguins are not here", hint="pip install --no-deps palmerpenguins")
    folder = data or Path(str(package and package.origin)).parent / "data"
    if not (folder / FILE).is_file():
        raise DataError(f"no {FILE} in {folder}", hint="point --data at the folder that holds it")
    return folder / FILE
