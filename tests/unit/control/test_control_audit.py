"""The audit log in a real database: proofs hold, and whatever is done to the rows afterwards is found."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Connection, text

from archipel.cli import auditing
from archipel.control.services.audit import EventLog, keep_within
from archipel.control.services.heads import Heads
from archipel.control.store import log, schema
from archipel.control.store.database import Database
from archipel.security import Authority
from archipel.security.audit import accept, sign_head
from archipel.security.keys import load_or_make_key
from archipel.site.agent.witness import Witness, accept_anew
from archipel.site.journal import Journal
from archipel.spec import ArchipelError, AuditError, Event, StateError, UnknownNameError, decode, encode
from archipel.spec.audit import LogGrowth, SignedHead

SEEN, ALL = 12, 20
NOW = 1_790_000_000.0


class Kept:
    """A control plane's log, and what a site kept of it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.ca = folder / "ca"
        self.authority = Authority.open(self.ca, dt.datetime.fromtimestamp(NOW, dt.UTC))
        self.heads = Heads(database, self.authority, lambda: NOW)
        self.log = EventLog(database, lambda: NOW)

    def fill(self, first: int, last: int) -> None:
        """Write entries `first` to `last`."""
        for number in range(first, last + 1):
            self.log.write("round.closed", run="r", round=number)

    def leaves(self) -> list[bytes]:
        """What is in the rows now, as leaves."""
        return [encode(item.event) for item in self.database.read(log.read)]

    def change(self, *statements: str) -> None:
        """Do something to the database behind control's back."""

        def carry_out(connection: Connection) -> None:
            for statement in statements:
                connection.execute(text(statement))

        self.database.write(carry_out)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = request.param == "sqlite"
    opened = Database.open(
        f"sqlite:///{tmp_path / 'control.db'}" if sqlite else request.getfixturevalue("postgres").database()
    )
    schema.upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> Kept:
    return Kept(database, tmp_path)


@pytest.fixture
def seen(kept: Kept) -> SignedHead:
    """The log has 20 entries; a site has seen it at 12."""
    kept.fill(1, SEEN)
    head = kept.heads.head()
    kept.fill(SEEN + 1, ALL)
    return head


def test_an_untouched_log_proves_itself(kept: Kept, seen: SignedHead) -> None:
    assert auditing.check(kept.heads.head(), kept.leaves(), kept.authority.pem, [seen]).entries == ALL
    assert accept(seen, kept.heads.growth(SEEN), kept.authority.pem).head.size == ALL
    for number in range(1, ALL + 1):
        auditing.require_included(kept.heads.proof(number), kept.authority.pem)
    with pytest.raises(UnknownNameError):
        kept.heads.proof(ALL + 1)


ATTACKS: dict[str, tuple[str, ...]] = {
    "edit": ("UPDATE events SET actor = 'operator/else' WHERE id = 5",),
    "edit of a time": ("UPDATE events SET at = at + 1 WHERE id = 5",),
    "delete from the middle": ("DELETE FROM events WHERE id = 5", "UPDATE events SET id = id - 1 WHERE id > 5"),
    "swap": (
        "UPDATE events SET id = 1000 WHERE id = 3",
        "UPDATE events SET id = 3 WHERE id = 4",
        "UPDATE events SET id = 4 WHERE id = 1000",
    ),
    "truncate": (f"DELETE FROM events WHERE id > {SEEN - 2}",),
    "wipe": ("DELETE FROM events",),
    "insert in front": (
        "UPDATE events SET id = -id",
        "UPDATE events SET id = 1 - id WHERE id < 0",
        "INSERT INTO events (id, at, what, actor, level, detail) VALUES (1, 1, 'site.lost', 'control', 'info', '{}')",
    ),
    "fork": (f"UPDATE events SET what = 'run.stopped' WHERE id = {SEEN}",),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("signs", ["nobody", "the attacker"])
@pytest.mark.attack(
    "hostile control",
    "rewrite the audit log: {attack}",
    result="detected",
    open="found by a site that saw the entries before; else not",
)
def test_whatever_is_done_to_the_rows_is_found(
    kept: Kept, seen: SignedHead, tmp_path: Path, attack: str, signs: str
) -> None:
    """The attacker who signs also holds the key: the tree is made anew over the changed rows."""
    before = kept.heads.head()
    kept.change(*ATTACKS[attack])
    if signs == "the attacker":
        _rebuild(kept)
    leaves = kept.leaves()
    offered = kept.heads.head() if signs == "the attacker" else before
    with pytest.raises(AuditError):
        auditing.check(offered, leaves, kept.authority.pem, [seen])
    assert _run_script(tmp_path, kept, [offered, seen], leaves) == 1
    if signs == "the attacker":  # the site itself refuses the head it is shown
        with pytest.raises(AuditError):
            accept(seen, kept.heads.growth(SEEN), kept.authority.pem)


def test_the_script_passes_a_log_that_nobody_touched(kept: Kept, seen: SignedHead, tmp_path: Path) -> None:
    assert _run_script(tmp_path, kept, [kept.heads.head(), seen], kept.leaves()) == 0


def test_a_change_that_fails_leaves_neither_entry_nor_place(kept: Kept, seen: SignedHead) -> None:
    def change(connection: Connection) -> None:
        keep_within(connection, kept.log.event("run.submitted"))
        raise UnknownNameError("no")

    with pytest.raises(UnknownNameError):
        kept.database.write(change)
    kept.log.write("run.submitted")
    assert kept.heads.head().head.size == ALL + 1
    auditing.check(kept.heads.head(), kept.leaves(), kept.authority.pem, [seen])


def test_nothing_is_appended_where_somebody_else_has_written(kept: Kept, seen: SignedHead) -> None:
    kept.change(f"DELETE FROM events WHERE id > {SEEN}")
    with pytest.raises(ArchipelError):
        kept.log.write("run.submitted")
    assert len(kept.leaves()) == SEEN


def test_a_log_from_before_the_tree_gets_one_and_loses_its_gaps(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = Database.open(f"sqlite:///{path}")
    schema.upgrade(database)
    Kept(database, tmp_path).fill(1, 5)
    database.close()
    with sqlite3.connect(path) as old:
        old.executescript(
            "DROP TABLE audit_places; UPDATE alembic_version SET version_num = '0001'; DELETE FROM events WHERE id = 3;"
            "DROP TABLE inventories; DROP TABLE people; DROP INDEX tokens_name;"
            "ALTER TABLE tokens DROP COLUMN expires_at"
        )
    old.close()
    database = Database.open(f"sqlite:///{path}")
    schema.upgrade(database)
    kept = Kept(database, tmp_path)
    kept.fill(6, 6)
    assert auditing.check(kept.heads.head(), kept.leaves(), kept.authority.pem).entries == 5
    database.close()


def _growth(kept: Kept, **how: object) -> LogGrowth:
    growth = kept.heads.growth(SEEN)
    return LogGrowth(**{"since": growth.since, "head": growth.head, "path": growth.path, **how})  # type: ignore[arg-type]


LIES: dict[str, Callable[[Kept, Path], LogGrowth]] = {
    "no proof": lambda kept, _: _growth(kept, path=()),
    "a proof from elsewhere": lambda kept, _: kept.heads.growth(SEEN - 4),
    "a proof cut short": lambda kept, _: _growth(kept, path=kept.heads.growth(SEEN).path[1:]),
    "another size": lambda kept, _: _growth(kept, head=kept.authority.vouch(ALL + 1, bytes(32), _moment())),
    "an older log": lambda kept, _: _growth(kept, since=0, path=(), head=kept.authority.vouch(0, bytes(32), _moment())),
    "another key": lambda kept, folder: _growth(
        kept, head=sign_head(load_or_make_key(folder / "thief.key"), ALL, bytes(32), NOW)
    ),
    "a bent signature": lambda kept, _: _growth(
        kept, head=SignedHead(head=kept.heads.head().head, signature=b"\x30\x06\x02\x01\x01\x02\x01\x01")
    ),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.attack("hostile control", "show a site another log", result="detected")
def test_a_site_refuses_a_lie_keeps_its_head_and_says_so_in_its_own_log(
    kept: Kept, seen: SignedHead, tmp_path: Path, lie: str
) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.keep_head(seen)
    witness = Witness("torgersen", journal, lambda: NOW)
    offered = LIES[lie](kept, tmp_path)
    note = witness.take(offered, kept.authority.pem)
    assert note is not None
    assert note.what == "site.audit.refused"
    assert witness.take(offered, kept.authority.pem) is None, "said once"
    assert witness.trouble == note.detail["message"]
    assert journal.heads() == (seen,)
    (said,) = journal.logged()
    assert said.detail["error"] == "AuditError"
    assert said.detail["offered"] == encode(offered).decode()
    assert witness.take(kept.heads.growth(SEEN), kept.authority.pem) is None
    assert (witness.trouble, witness.witnessed) == ("", ALL)
    assert [signed.head.size for signed in journal.heads()] == [SEEN, ALL]
    journal.close()


def test_a_log_from_a_backup_is_believed_once_a_person_at_the_site_has_said_so(
    kept: Kept, seen: SignedHead, tmp_path: Path
) -> None:
    journal, ca = Journal(tmp_path / "journal.db"), kept.authority.pem
    journal.keep_head(kept.heads.head())
    witness = Witness("torgersen", journal, lambda: NOW)
    with pytest.raises(StateError, match="refused no head"):
        accept_anew(journal, "torgersen", ca, by="ada", now=NOW)
    restored = LogGrowth(since=SEEN, head=seen)
    assert witness.take(restored, ca) is not None
    said = accept_anew(journal, "torgersen", ca, by="ada", now=NOW)
    assert (said.what, said.actor) == ("site.audit.accepted", "person/ada")
    assert decode(said.detail["kept"].encode(), SignedHead).head.size == ALL
    assert decode(said.detail["offered"].encode(), SignedHead) == seen
    assert journal.logged()[-1] == said
    with pytest.raises(StateError, match="refused no head"):
        accept_anew(journal, "torgersen", ca, by="ada", now=NOW)
    assert witness.take(restored, ca) is None
    assert (witness.trouble, witness.witnessed, journal.heads()) == ("", SEEN, (seen,))
    journal.close()


def test_a_refused_head_that_control_did_not_sign_cannot_be_accepted(
    kept: Kept, seen: SignedHead, tmp_path: Path
) -> None:
    journal, ca = Journal(tmp_path / "journal.db"), kept.authority.pem
    journal.keep_head(seen)
    false = LIES["another key"](kept, tmp_path)
    assert Witness("torgersen", journal, lambda: NOW).take(false, ca) is not None
    with pytest.raises(AuditError):
        accept_anew(journal, "torgersen", ca, by="ada", now=NOW)
    assert journal.heads() == (seen,)
    journal.close()


def test_a_site_goes_on_from_what_it_kept_before_it_was_started_again(
    kept: Kept, seen: SignedHead, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal.db")
    Witness("a", journal, lambda: NOW).take(LogGrowth(since=0, head=seen), kept.authority.pem)
    journal.close()
    again = Journal(tmp_path / "journal.db")
    assert Witness("a", again, lambda: NOW).witnessed == SEEN
    again.close()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE log SET event = CAST(replace(CAST(event AS TEXT), 'first', 'other') AS BLOB)",
        "DELETE FROM log WHERE number = 3",
        "DELETE FROM log_places WHERE level = 0 AND place = 2",
    ],
)
@pytest.mark.attack("thief", "change a site's own log", result="detected")
def test_a_change_in_a_sites_own_log_is_found(tmp_path: Path, attack: str) -> None:
    journal = Journal(tmp_path / "journal.db")
    for what in ("site.first", "site.second", "site.third"):
        journal.log(Event(at=NOW, what=what, actor="site/a"))
    assert [event.what for event in journal.logged()] == ["site.first", "site.second", "site.third"]
    other = sqlite3.connect(tmp_path / "journal.db")
    with other:
        other.execute(attack)
    other.close()
    with pytest.raises(ArchipelError):
        journal.logged()
    journal.close()


def _moment() -> dt.datetime:
    return dt.datetime.fromtimestamp(NOW, dt.UTC)


def _rebuild(kept: Kept) -> None:
    """Make the tree anew over whatever the rows say now."""
    events = [item.event for item in kept.database.read(log.read)]
    kept.change("DELETE FROM audit_places", "DELETE FROM events")
    kept.database.write(lambda connection: log.append(connection, events))


def _run_script(folder: Path, kept: Kept, heads: list[SignedHead], leaves: list[bytes]) -> int:
    """Return what the script exits with; the first head is the export's own, the others a site's."""
    (folder / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in (encode(heads[0]), *leaves)))
    (folder / "heads.jsonl").write_bytes(b"".join(encode(each) + b"\n" for each in heads[1:]))
    (folder / "ca.pem").write_text(kept.authority.pem)
    code: int = _script().main(*(str(folder / name) for name in ("log.jsonl", "ca.pem", "heads.jsonl")))
    return code


def _script() -> ModuleType:
    path = Path(__file__).parents[3] / "examples/audit/verify_export.py"
    spec = importlib.util.spec_from_file_location("verify_export", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
