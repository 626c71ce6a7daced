"""The store on SQLite and on PostgreSQL: migrations, grouped commits, the lock, and what errors mean."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, select, text

from archipel.control.store import people, schema
from archipel.control.store.database import Database
from archipel.control.store.lock import DatabaseLock, FolderLock, Holder
from archipel.control.store.tables import bundles, metadata
from archipel.spec import LinkError, SpecError, StateError, StorageFullError
from archipel.spec.people import Person


def put(digest: str, size: int = 1) -> Callable[[Connection], None]:
    return lambda connection: connection.execute(insert(bundles).values(digest=digest, size_bytes=size, stored_at=0.0))  # type: ignore[return-value]


def digests(database: Database) -> list[str]:
    return sorted(database.read(lambda connection: connection.execute(select(bundles.c.digest)).scalars().all()))


def test_migrations_make_exactly_the_tables_the_code_uses(database: Database) -> None:
    different = database.read(lambda connection: compare_metadata(MigrationContext.configure(connection), metadata))
    assert different == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    database.write(put("a"))
    schema.upgrade(database)
    assert digests(database) == ["a"]
    assert database.read(schema.revision) == schema.HEAD


def test_the_code_knows_every_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == schema.HEAD
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(schema.KNOWN)


def test_whoever_held_a_token_before_there_were_people_is_an_admin_and_the_token_still_holds(url: str) -> None:
    database = Database.open(url)
    database.write(lambda connection: migrate(connection, "0002"))
    held = text("INSERT INTO tokens (secret_hash, name, issued_at) VALUES ('h1', 'admin', 5.0), ('h2', 'admin', 7.0)")
    database.write(lambda connection: connection.execute(held))
    schema.upgrade(database)
    assert database.read(lambda connection: people.holder(connection, "h1", 1e10)) == Person(name="admin", role="admin")
    [(row, sessions)] = database.read(lambda connection: people.everybody(connection, 1e10))
    assert (row.name, row.added_at, row.password, sessions) == ("admin", 5.0, None, 2)
    database.close()


def migrate(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_a_database_of_a_newer_version_is_refused_before_anything_is_touched(database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StateError, match="9999, newer than this archipel") as refused:
        schema.upgrade(database)
    assert "version that made it" in refused.value.hint
    assert database.read(schema.revision) == "9999"


def test_a_migration_that_dies_half_way_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(url)

    def half(connection: Connection) -> None:
        metadata.tables["bundles"].create(connection)
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "_migrate", half)
    with pytest.raises(RuntimeError, match="power cut"):
        schema.upgrade(database)
    monkeypatch.undo()
    schema.upgrade(database)
    assert digests(database) == []
    database.close()


def test_a_change_that_fails_takes_nobody_with_it(database: Database) -> None:
    database.write(put("a"))
    ready = threading.Barrier(3)
    errors: list[Exception] = []

    def change(digest: str) -> None:
        ready.wait()
        try:
            database.write(put(digest))
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=change, args=(digest,)) for digest in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests(database) == ["a", "b", "c"]
    [error] = errors
    assert "the database refuses it" in str(error)


def test_a_question_sees_one_moment(database: Database) -> None:
    database.write(put("a"))

    def twice(connection: Connection) -> list[int]:
        counts = []
        for _ in range(2):
            counts.append(len(connection.execute(select(bundles.c.digest)).all()))
            writer = threading.Thread(target=database.write, args=(put(f"later-{len(counts)}"),))
            writer.start()
            writer.join(30)
        return counts

    assert database.read(twice) == [1, 1]
    assert digests(database) == ["a", "later-1", "later-2"]


def test_many_writers_at_once_share_commits_and_lose_nothing(database: Database) -> None:
    def change(number: int) -> None:
        for index in range(20):
            database.write(put(f"{number:02}-{index:02}"))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests(database) == [f"{number:02}-{index:02}" for number in range(8) for index in range(20)]


def test_what_a_change_raises_reaches_the_one_who_asked(database: Database) -> None:
    def change(connection: Connection) -> None:
        connection.execute(insert(bundles).values(digest="x", size_bytes=1, stored_at=0.0))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        database.write(change)
    assert digests(database) == []


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    schema.upgrade(database)
    database.write(put("kept"))
    pages = database.read(lambda connection: connection.execute(text("PRAGMA page_count")).scalar_one())
    database.close()
    full = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    full.engine.dispose()

    def fill(connection: Connection) -> None:
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
        put("x" * 1_000_000)(connection)

    with pytest.raises(StorageFullError, match="no space") as error:
        full.write(fill)
    assert "free some space" in error.value.hint
    assert digests(full) == ["kept"]
    full.close()


def test_two_holders_of_a_folder_are_not_possible_and_the_first_is_named(tmp_path: Path) -> None:
    words = "import sys,time; from pathlib import Path; from archipel.control.store.lock import FolderLock\n"
    words += "lock = FolderLock(Path(sys.argv[1]), 12.0); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", words, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StateError, match=rf"process {other.pid} on .*since 1970-01-01 00:00 UTC"):
            FolderLock(tmp_path, 13.0)
        other.kill()
        other.wait()
    FolderLock(tmp_path, 14.0).close()


@pytest.mark.postgres
def test_two_holders_of_a_postgresql_database_are_not_possible(postgres: object) -> None:
    url = postgres.database()  # type: ignore[attr-defined]
    first, second = Database.open(url), Database.open(url)
    lock = DatabaseLock.take(first, Holder(pid=17, host="here", since=12.0))
    with pytest.raises(StateError, match="not yet said its name"):
        DatabaseLock.take(second, Holder(pid=18, host="there", since=13.0))
    schema.upgrade(first)
    lock.sign()
    with pytest.raises(StateError, match="process 17 on here"):
        DatabaseLock.take(second, Holder(pid=18, host="there", since=13.0))
    lock.close()
    DatabaseLock.take(second, Holder(pid=18, host="there", since=13.0)).close()
    first.close()
    second.close()


def test_a_holder_whose_place_was_taken_cannot_commit_any_more(url: str) -> None:
    first, second = Database.open(url), Database.open(url)
    schema.upgrade(first)
    DatabaseLock(first, Holder(pid=1, host="a", since=0.0), None).sign()
    first.write(put("mine"))
    DatabaseLock(second, Holder(pid=2, host="b", since=1.0), None).sign()
    with pytest.raises(StateError, match="another control plane has taken over"):
        first.write(put("late"))
    second.write(put("yours"))
    assert digests(second) == ["mine", "yours"]
    first.close()
    second.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "sqlite+aiosqlite:///x"])
def test_an_address_of_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(SpecError) as refused:
        Database.open(url)
    assert "sqlite:///PATH" in refused.value.hint


def test_a_database_that_is_away_is_a_link_error() -> None:
    database = Database.open("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(LinkError, match="cannot be reached"):
        database.read(lambda connection: connection.execute(text("SELECT 1")))


def test_sqlite_keeps_what_it_has_said_yes_to(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    schema.upgrade(database)
    modes = database.read(
        lambda connection: [
            connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        ]
    )
    assert modes == ["wal", 2]
    database.write(put("a"))
    # What another process sees at once needs neither our buffers nor our end.
    with sqlite3.connect(tmp_path / "control.db") as other:
        assert other.execute("SELECT digest FROM bundles").fetchall() == [("a",)]
    database.close()
