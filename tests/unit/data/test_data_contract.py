"""Data sets against contracts: hand-counted rows, tables of bad input, and no cell's content in what may leave."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.contract import MISSING_INTEGER, check_contract
from archipel.data.dataset import open_dataset
from archipel.data.readers.csv_table import Table
from archipel.spec import Column, Contract, DataError, digest_of

BIRDS = Contract(
    columns={
        "species": Column(kind="category", values=("Adelie", "Gentoo")),
        "mass": Column(kind="number", low=1000, high=10000),
        "year": Column(kind="integer"),
        "note": Column(kind="text", required=False),
    },
    label="species",
    max_quarantined=0.9,
)

RAGGED = "row: wrong number of fields or quotes"
GOOD = "species,mass,year,note\nAdelie,3800.5,2007,\nGentoo,5000,2008,ok\n"


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def opened(folder, contract=BIRDS):
    return open_dataset("here", "birds", folder, contract)


def test_good_rows_come_typed_and_in_order(tmp_path):
    data, manifest = opened(write(tmp_path, birds=GOOD))
    assert data.columns["mass"].tolist() == [3800.5, 5000.0]
    assert data.columns["mass"].dtype == np.float64
    assert data.columns["year"].tolist() == [2007, 2008]
    assert data.columns["year"].dtype == np.int64
    assert data.columns["species"].tolist() == ["Adelie", "Gentoo"]
    assert data.columns["note"].tolist() == ["", "ok"]
    assert data.row_ids.tolist() == [0, 1]
    assert (manifest.rows, manifest.quarantined) == (2, {})
    assert manifest.labels == {"Adelie": 1, "Gentoo": 1}
    assert manifest.columns == {"species": "category", "mass": "number", "year": "integer", "note": "text"}


@dataclass
class BadRow:
    line: str
    reason: str


BAD_ROWS = [
    BadRow("SECRET,4000,2007,", "species: unknown category"),
    BadRow(",4000,2007,", "species: missing"),
    BadRow("NA,4000,2007,", "species: missing"),
    BadRow("Adelie,,2007,", "mass: missing"),
    BadRow("Adelie,NA,2007,", "mass: missing"),
    BadRow("Adelie,SECRET,2007,", "mass: not a number"),
    BadRow("Adelie,inf,2007,", "mass: not a number"),
    BadRow("Adelie,1e999,2007,", "mass: not a number"),
    BadRow("Adelie,999,2007,", "mass: below 1000"),
    BadRow("Adelie,10000.1,2007,", "mass: above 10000"),
    BadRow("Adelie,4000,2007.5,", "year: not an integer"),
    BadRow("Adelie,4000,SECRET,", "year: not an integer"),
    BadRow("Adelie,4000,99999999999999999999,", "year: not an integer"),
    BadRow("Adelie,4000,-9223372036854775808,", "year: not an integer"),
    BadRow("Adelie,4000,,", "year: missing"),
    BadRow("Adelie,4000", RAGGED),
    BadRow("Adelie,4000,2007,,SECRET", RAGGED),
    BadRow('Adelie,4000,2007,"SECRET"y', RAGGED),
    BadRow(f"Adelie,4000,2007,{'long' * 40_000}", RAGGED),
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: bad.line[:40] or "empty")
def test_a_bad_row_is_set_aside_and_counted(tmp_path, bad):
    lines = GOOD.splitlines()
    text = "\n".join([lines[0], lines[1], bad.line, lines[2]]) + "\n"
    data, manifest = opened(write(tmp_path, birds=text))
    assert manifest.quarantined == {bad.reason: 1}
    assert data.row_ids.tolist() == [0, 2]
    assert data.columns["species"].tolist() == ["Adelie", "Gentoo"]
    assert "SECRET" not in repr(manifest)


def test_a_row_is_counted_under_its_first_reason_only(tmp_path):
    _, manifest = opened(write(tmp_path, birds=GOOD + "Emu,heavy,never,\n"))
    assert manifest.quarantined == {"species: unknown category": 1}


@dataclass
class BadSet:
    name: str
    message: str
    text: str | None = GOOD
    contract: Contract = field(default_factory=lambda: BIRDS)
    hint: str = ""


def contract(**changes):
    return Contract(**{"columns": BIRDS.columns, "label": "species", "max_quarantined": 0.9, **changes})


BAD_SETS = [
    BadSet("empty file", "birds.csv is empty", text=""),
    BadSet("no file", "no CSV file", text=None),
    BadSet("header only", "0 valid rows, the job needs 1", text=GOOD.splitlines()[0] + "\n"),
    BadSet("too few", "2 valid rows, the job needs 3", contract=contract(min_rows=3), hint="min_rows"),
    BadSet("too many bad", "1 of 3 rows", text=GOOD + "Emu,1,2,\n", contract=contract(max_quarantined=0.3)),
    BadSet("column absent", "no column 'mass'", text=GOOD.replace("mass", "mas_s"), hint="'mas_s'"),
    BadSet("label unlisted", "label 'island'", contract=contract(label="island"), hint="contract"),
    BadSet("column twice", "names column 'mass' twice", text=GOOD.replace("year", "mass")),
    BadSet("not UTF-8", "not UTF-8", text="latin"),
    BadSet("open quote", f"2 of 2 rows.*{RAGGED}", text=GOOD.splitlines()[0] + '\nAdelie,"38\nGentoo,\n'),
    BadSet("header with an open quote", "quotes in the first line", text='species,"mass\n' + GOOD),
]


@pytest.mark.parametrize("bad", BAD_SETS, ids=lambda bad: bad.name)
def test_a_bad_data_set_is_refused_by_name(tmp_path, bad):
    if bad.text == "latin":
        (tmp_path / "birds.csv").write_bytes("species,mass\nAd\xe9lie,1\n".encode("latin-1"))
    elif bad.text is not None:
        write(tmp_path, birds=bad.text)
    with pytest.raises(DataError) as caught:
        opened(tmp_path, bad.contract)
    assert re.search(bad.message, caught.value.message)
    assert bad.hint in caught.value.hint
    assert caught.value.hint


def test_a_place_that_is_gone_is_named_without_its_path(tmp_path):
    with pytest.raises(DataError, match="'birds' of site 'here'") as caught:
        opened(tmp_path / "gone")
    assert str(tmp_path) not in caught.value.message


def test_too_many_bad_rows_names_both_numbers(tmp_path):
    with pytest.raises(DataError, match=r"33%, allowed 30%.*'species: unknown category'"):
        opened(write(tmp_path, birds=GOOD + "Emu,1,2,\n"), contract(max_quarantined=0.3))


def test_an_optional_column_may_be_absent_or_empty(tmp_path):
    columns = {
        "mass": Column(kind="number", required=False),
        "year": Column(kind="integer", required=False),
        "sex": Column(kind="category", required=False, values=("f", "m")),
        "age": Column(kind="number", required=False),
    }
    text = "mass,year,sex\n,,\n4000,2007,f\n"
    data, manifest = opened(write(tmp_path, birds=text), Contract(columns=columns))
    assert np.isnan(data.columns["mass"][0])
    assert data.columns["year"].tolist() == [MISSING_INTEGER, 2007]
    assert data.columns["sex"].tolist() == ["", "f"]
    assert np.isnan(data.columns["age"]).all()
    assert manifest.rows == 2
    assert "age" not in manifest.columns


def test_an_optional_column_still_quarantines_what_is_wrong(tmp_path):
    columns = {"mass": Column(kind="number", required=False, low=0)}
    _, manifest = opened(
        write(tmp_path, birds="mass,x\n,\nheavy,\n-1,\n5,\n"), Contract(columns=columns, max_quarantined=1.0)
    )
    assert manifest.quarantined == {"mass: not a number": 1, "mass: below 0": 1}


@pytest.mark.parametrize(
    ("values", "reason"), [((), "kind: longer than 1000 characters"), (("a", "b"), "kind: unknown category")]
)
def test_one_long_cell_of_a_category_is_set_aside_and_takes_no_room_in_the_other_rows(values, reason):
    cells = ["a", "b" * 1001, "b" * 100_000, "b"] * 1000
    table = Table(rows=len(cells), columns={"kind": cells})
    tracemalloc.start()
    checked = check_contract(table, Contract(columns={"kind": Column(kind="category", values=values)}), "birds")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert checked.quarantined == {reason: 2000}
    assert checked.columns["kind"].tolist() == ["a", "b"] * 1000
    assert peak < 1_000_000, "with room for the longest cell in each row it would be 1.6 GB"


def test_files_of_a_folder_are_read_in_name_order(tmp_path):
    header, one, two = GOOD.splitlines()
    write(tmp_path, b=f"{header}\n{two}\n", a=f"{header}\n{one}\n")
    (tmp_path / "readme.txt").write_text("not data")
    data, _ = opened(tmp_path)
    assert data.columns["species"].tolist() == ["Adelie", "Gentoo"]
    assert data.row_ids.tolist() == [0, 1]


def test_columns_may_stand_in_another_order_in_each_file(tmp_path):
    write(tmp_path, a=GOOD, b="note,year,mass,species\n,2009,4100,Adelie\n")
    assert opened(tmp_path)[0].columns["mass"].tolist() == [3800.5, 5000.0, 4100.0]


def test_files_with_other_columns_are_refused(tmp_path):
    write(tmp_path, a=GOOD, b="species,mass,year\nAdelie,4000,2007\n")
    with pytest.raises(DataError, match=r"b\.csv and a\.csv differ in column 'note'"):
        opened(tmp_path)


def test_a_byte_order_mark_and_blank_lines_and_quotes_are_read(tmp_path):
    text = '\ufeffspecies,mass,year,note\n\nAdelie,"4000",2007,"a, ""b""\nc"\n\n'
    data, _ = opened(write(tmp_path, birds=text))
    assert data.columns["note"].tolist() == ['a, "b"\nc']


def test_every_line_of_a_record_with_unmatched_quotes_is_counted_and_the_next_record_is_read(tmp_path):
    header, one, two = GOOD.splitlines()
    text = f'{header}\n{one}\nAdelie,3800,2007,"opened\nclosed"here\n{two}\n'
    data, manifest = opened(write(tmp_path, birds=text))
    assert manifest.quarantined == {RAGGED: 2}
    assert data.row_ids.tolist() == [0, 3]


def test_a_blank_line_of_a_file_with_one_column_is_counted_and_keeps_its_place(tmp_path):
    what = Contract(columns={"mass": Column(kind="number")})
    data, manifest = opened(write(tmp_path, birds="mass\n1\n\n3\n"), what)
    assert manifest.quarantined == {RAGGED: 1}
    assert data.row_ids.tolist() == [0, 2]


def test_a_single_file_is_a_data_set(tmp_path):
    write(tmp_path, birds=GOOD)
    assert opened(tmp_path / "birds.csv")[1].rows == 2


def test_a_label_with_too_many_values_is_no_label(tmp_path):
    text = "id\n" + "\n".join(f"p{row}" for row in range(1001)) + "\n"
    with pytest.raises(DataError, match="1001 different values"):
        opened(write(tmp_path, birds=text), Contract(columns={"id": Column(kind="category")}, label="id"))


def test_a_contract_without_columns_counts_files(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("train.txt", "deep/test.txt"):
        (tmp_path / name).write_text("words")
    data, manifest = opened(tmp_path, Contract(min_rows=2))
    assert (manifest.rows, data.columns) == (2, {})
    assert data.row_ids.tolist() == [0, 1]
    with pytest.raises(DataError, match="2 valid rows, the job needs 3"):
        opened(tmp_path, Contract(min_rows=3))


def test_an_empty_folder_has_no_rows(tmp_path):
    with pytest.raises(DataError, match="0 valid rows"):
        opened(tmp_path, Contract())


def test_the_digest_changes_with_content_name_and_number_of_files(tmp_path):
    def digest():
        return opened(tmp_path, Contract(min_rows=0))[1].digest

    seen = {digest()}
    (tmp_path / "a.txt").write_text("one")
    seen.add(digest())
    assert digest() in seen
    (tmp_path / "a.txt").write_text("two")
    seen.add(digest())
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    seen.add(digest())
    (tmp_path / "c.txt").touch()
    seen.add(digest())
    (tmp_path / "c.txt").unlink()
    assert digest() in seen
    assert len(seen) == 5


def test_the_digest_is_the_one_computed_by_hand(tmp_path):
    import hashlib

    (tmp_path / "a").write_bytes(b"x")
    parts = hashlib.sha256(b"a").digest() + hashlib.sha256(b"x").digest()
    manifest = opened(tmp_path, Contract())[1]
    assert (manifest.digest, manifest.size_bytes) == (digest_of(parts), 1)


CELL = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "NA", "1_0", " 7 ", "0x1", "१२", "1e400", "-0"]),
)


@given(cells=st.lists(CELL, max_size=30), required=st.booleans(), kind=st.sampled_from(["number", "integer", "text"]))
def test_any_text_is_kept_or_counted_and_never_both(cells, required, kind):
    table = Table(rows=len(cells), columns={"x": cells})
    what = Contract(columns={"x": Column(kind=kind, required=required)}, min_rows=0, max_quarantined=1.0)
    checked = check_contract(table, what, "any")
    assert len(checked.row_ids) + sum(checked.quarantined.values()) == len(cells)
    assert len(checked.columns["x"]) == len(checked.row_ids)
    if kind == "number":
        assert not np.isinf(checked.columns["x"]).any()
        if required:
            assert np.isfinite(checked.columns["x"]).all()


@given(body=st.one_of(st.binary(max_size=120), st.text('ab",\n\r\0 1', max_size=60).map(str.encode)))
def test_any_file_is_read_or_refused(tmp_path_factory, body):
    folder = tmp_path_factory.mktemp("any")
    (folder / "any.csv").write_bytes(b"a,b\n" + body)
    what = Contract(columns={"a": Column(kind="number"), "b": Column(kind="text")}, max_quarantined=1.0)
    try:
        data, manifest = opened(folder, what)
    except DataError:
        return
    assert len(data.columns["a"]) == len(data.columns["b"]) == manifest.rows
