"""Read CSV: one file, or every *.csv of a folder in name order, as columns of text.

Rules: the first line names the columns; all files of a folder name the same ones (in any order). A line with too few
or too many fields is kept as a ragged row, so that the contract can quarantine and count it; so is each line of a
record whose quotes do not match, and a blank line where there is one column (elsewhere blank lines are skipped). Only
the wanted columns are kept. No error names a cell's content, for errors may leave the site.

    table = read_table(Path("birds"), wanted=("species", "bill_length_mm"))
    table.columns["species"]                  # ["Adelie", "Gentoo", …]
"""

from __future__ import annotations

import csv
import difflib
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from archipel.spec import DataError


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Columns of text, in file order."""

    rows: int
    """Data rows, ragged ones included."""
    columns: dict[str, list[str]]
    """Wanted column → one text a row; a ragged row has "". A column no file has is absent."""
    ragged: tuple[int, ...] = ()
    """Positions of rows with a wrong number of fields or quotes that do not match."""


def list_tables(path: Path) -> tuple[Path, ...]:
    """Return the CSV files at `path`, in name order."""
    if path.is_dir():
        return tuple(sorted(entry for entry in path.iterdir() if entry.suffix.lower() == ".csv" and entry.is_file()))
    return (path,) if path.is_file() else ()


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """Read the wanted columns of the file or folder at `path`.

    Raises:
        DataError: no CSV file there, not UTF-8, no line with column names, a repeated column, or files that name
            different columns.
    """
    files = list_tables(path)
    if not files:
        raise DataError(f"no CSV file in {path.name!r}", hint="put one or more *.csv files there, with a header line")
    columns: dict[str, list[str]] = {}
    ragged: list[int] = []
    rows = 0
    for position, file in enumerate(files):
        header, body, uneven = _read_file(file)
        found = [name for name in wanted if name in header]
        if position and set(found) != set(columns):
            odd = sorted(set(found) ^ set(columns))
            raise DataError(
                f"{file.name} and {files[0].name} differ in column {odd[0]!r}", hint="give all files the same columns"
            )
        for name in found:
            index = header.index(name)
            columns.setdefault(name, []).extend([row[index] for row in body])
        ragged.extend(rows + row for row in uneven)
        rows += len(body)
    return Table(rows=rows, columns=columns, ragged=tuple(ragged))


def read_header(path: Path) -> tuple[str, ...]:
    """Return the column names of the first CSV file at `path`."""
    files = list_tables(path)
    if not files:
        return ()
    with files[0].open(encoding="utf-8-sig", newline="") as stream:
        return tuple(_header(_records(stream), files[0]))


def nearest(name: str, known: Collection[str]) -> str:
    """Say which of `known` is meant by `name`, as the hint of an error."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"is it {near[0]!r}?" if near else f"the columns are {', '.join(sorted(known)) or 'none'}"


def _read_file(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            records = _records(stream)
            header = _header(records, file)
            width = len(header)
            body = [row or [] for row in records if row != [] or width == 1]
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is not UTF-8 text", hint="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error.strerror}", hint="check its permissions") from error
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise DataError(f"{file.name} names column {min(repeated)!r} twice", hint="rename one of them")
    uneven = [position for position, row in enumerate(body) if len(row) != width]
    for position in uneven:
        body[position] = [""] * width
    return header, body, uneven


def _header(records: Iterator[list[str] | None], file: Path) -> list[str]:
    hint = "its first line must name the columns"
    try:
        header = next(records)
    except StopIteration:
        raise DataError(f"{file.name} is empty", hint=hint) from None
    if header is None:
        raise DataError(f"the quotes in the first line of {file.name} do not match", hint=hint)
    return header


def _records(stream: Iterator[str]) -> Iterator[list[str] | None]:
    """Yield every record, and None for each line of one whose quotes do not match."""
    reader = csv.reader(stream, strict=True)
    read = 0
    while True:
        try:
            for record in reader:
                read = reader.line_num
                yield record
        except csv.Error:
            yield from itertools.repeat(None, reader.line_num - read)
            read = reader.line_num
        else:
            return
