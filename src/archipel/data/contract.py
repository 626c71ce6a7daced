"""Hold a table against a job's contract: typed columns of the rows that pass, and a count of the others by reason.

    text columns → parse each by its kind → first reason a row fails, in the contract's order → kept rows

A row is set aside, never mended: required value missing, not a number, out of bounds, unknown or endless category.
Reasons name the column and the rule and never a cell's content, because the counts leave the site. What is missing is
written as one of `MISSING`; a missing value in a column that is not required is NaN ("number"), `MISSING_INTEGER`
("integer") or "" ("category", "text").

Example:
    >>> from archipel.spec import Column, Contract
    >>> table = Table(rows=3, columns={"mass": ["3800", "NA", "heavy"]})
    >>> checked = check_contract(table, Contract(columns={"mass": Column(kind="number")}, max_quarantined=1.0), "birds")
    >>> checked.columns["mass"].tolist(), checked.quarantined
    ([3800.0], {'mass: missing': 1, 'mass: not a number': 1})
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from archipel.data.readers.csv_table import Table, nearest
from archipel.spec import Column, Contract, DataError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
"""How a missing number, integer or category is written; a "text" is missing only when it is empty."""
MISSING_INTEGER = np.iinfo(np.int64).min
"""Stands for a missing value in an "integer" column that is not required."""
LABEL_LIMIT = 1000
"""More values than this are not a label; listing them in a manifest would list the data."""

CATEGORY_LIMIT = 1000
"""A longer text is no category; an array of categories gives every row the room of the longest one."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What passed, and why the rest did not."""

    columns: Mapping[str, Array]
    row_ids: npt.NDArray[np.int64]
    quarantined: dict[str, int]
    labels: dict[str, int]


def check_contract(table: Table, contract: Contract, dataset: str, header: tuple[str, ...] = ()) -> Checked:
    """Return the rows of `table` that keep `contract`; `header` names all columns the source has, for hints.

    Raises:
        DataError: a required column is absent, too few rows pass, or too many do not.
    """
    _require_columns(table, contract, dataset, header)
    reasons: dict[str, Mask] = {}
    failed = np.zeros(table.rows, dtype=np.bool_)
    failed[list(table.ragged)] = True
    reasons["row: wrong number of fields or quotes"] = failed.copy()
    columns: dict[str, Array] = {}
    for name, column in contract.columns.items():
        values, faults = _parse(table.columns.get(name) or [""] * table.rows, column)
        for reason, rows in faults.items():
            reasons[f"{name}: {reason}"] = rows & ~failed
            failed |= rows
        columns[name] = values
    quarantined = {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}
    _judge(table.rows, int(failed.sum()), contract, dataset, quarantined)
    kept = np.flatnonzero(~failed)
    passed = {name: values[kept] for name, values in columns.items()}
    return Checked(
        columns=passed, row_ids=kept, quarantined=quarantined, labels=_count_labels(passed, contract, dataset)
    )


def require_rows(rows: int, contract: Contract, dataset: str) -> None:
    """Refuse a data set with fewer than the contract's `min_rows`."""
    if rows < contract.min_rows:
        raise DataError(
            f"data set {dataset!r} has {rows} valid rows, the job needs {contract.min_rows}",
            hint="add rows at this site, or lower min_rows in [data.contract]",
        )


def _require_columns(table: Table, contract: Contract, dataset: str, header: tuple[str, ...]) -> None:
    known = header or tuple(table.columns)
    wanted = [name for name, column in contract.columns.items() if column.required]
    if contract.label is not None:
        wanted.append(contract.label)
        if contract.label not in contract.columns:
            raise DataError(
                f"the label {contract.label!r} is not among the contract's columns",
                hint=f"add [data.contract.columns.{contract.label}] to the job",
            )
    for name in wanted:
        if name not in table.columns:
            raise DataError(f"data set {dataset!r} has no column {name!r}", hint=nearest(name, known))


def _judge(rows: int, bad: int, contract: Contract, dataset: str, quarantined: Mapping[str, int]) -> None:
    if rows and bad / rows > contract.max_quarantined:
        worst = max(quarantined, key=lambda reason: quarantined[reason])
        raise DataError(
            f"{bad} of {rows} rows of data set {dataset!r} break the contract ({bad / rows:.0%}, allowed "
            f"{contract.max_quarantined:.0%}); most often {worst!r}",
            hint="mend the data, or the rule in [data.contract], or raise max_quarantined",
        )
    require_rows(rows - bad, contract, dataset)


def _count_labels(columns: Mapping[str, Array], contract: Contract, dataset: str) -> dict[str, int]:
    if contract.label is None:
        return {}
    counts = Counter(columns[contract.label].tolist())
    if len(counts) > LABEL_LIMIT:
        raise DataError(
            f"the label column {contract.label!r} of data set {dataset!r} has {len(counts)} different values",
            hint=f"a label has at most {LABEL_LIMIT}; name another column",
        )
    return {str(value): count for value, count in sorted(counts.items())}


def _parse(texts: list[str], column: Column) -> tuple[Array, dict[str, Mask]]:
    """Return typed values, and for each reason the rows it fails."""
    missing_words = {""} if column.kind == "text" else MISSING
    missing = np.fromiter((text in missing_words for text in texts), np.bool_, len(texts))
    faults = {"missing": missing} if column.required else {}
    values: Array
    if column.kind == "number":
        values, bad = _numbers(texts, missing)
        faults["not a number"] = bad
    elif column.kind == "integer":
        values, bad = _integers(texts, missing)
        faults["not an integer"] = bad
    else:
        return _words(texts, missing, column, faults), faults
    good = ~missing & ~bad
    if column.low is not None:
        faults[f"below {column.low:g}"] = good & (values < column.low)
    if column.high is not None:
        faults[f"above {column.high:g}"] = good & (values > column.high)
    return values, faults


def _words(texts: list[str], missing: Mask, column: Column, faults: dict[str, Mask]) -> Array:
    """Return the texts, what is missing or faulty left empty, and add to `faults`."""
    gone = missing
    if column.values:
        known = frozenset(column.values)
        faults["unknown category"] = np.fromiter((text not in known for text in texts), np.bool_, len(texts)) & ~missing
        gone = missing | faults["unknown category"]
    elif column.kind == "category":
        long = np.fromiter((len(text) > CATEGORY_LIMIT for text in texts), np.bool_, len(texts))
        faults[f"longer than {CATEGORY_LIMIT} characters"] = long
        gone = missing | long
    words = ["" if blank else text for text, blank in zip(texts, gone.tolist(), strict=True)]
    # A fixed-width array gives every row the room of the longest text.
    return np.array(words, dtype=object if column.kind == "text" else np.str_)


def _numbers(texts: list[str], missing: Mask) -> tuple[npt.NDArray[np.float64], Mask]:
    words = ["nan" if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)]
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        values = np.array([_number(word) for word in words], dtype=np.float64)
    return values, ~np.isfinite(values) & ~missing


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _integers(texts: list[str], missing: Mask) -> tuple[npt.NDArray[np.int64], Mask]:
    gone = str(MISSING_INTEGER)
    words = [gone if lost else text for text, lost in zip(texts, missing.tolist(), strict=True)]
    try:
        values = np.array(words, dtype=np.int64)
    except (ValueError, OverflowError):
        values = np.array([_integer(word) for word in words], dtype=np.int64)
    return values, (values == MISSING_INTEGER) & ~missing


def _integer(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        number = _number(text)
        if not number.is_integer():
            return MISSING_INTEGER
        value = int(number)
    return value if abs(value) <= np.iinfo(np.int64).max else MISSING_INTEGER
