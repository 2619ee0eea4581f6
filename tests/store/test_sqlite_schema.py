"""Changes of the schema of a SQLite store, and the cost of a claim."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from places import NOW, at_once, job
from sqlite_place import OWNER, own, path, store  # noqa: F401

from autocron_web.errors import SchemaTooNew, StoreError
from autocron_web.jobs import SECOND
from autocron_web.store import sqlite_sql
from autocron_web.store.sqlite import SqliteStore

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- schema ----------------------------------------------------------------------------------------


def add_a_step(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    monkeypatch.setattr(sqlite_sql, "STEPS", (*sqlite_sql.STEPS, statements))


def schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT value FROM autocron_meta WHERE key = 'schema'").fetchone()[0])


def test_an_older_schema_is_brought_up_to_date_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
        assert schema(path) == "1"
        add_a_step(
            monkeypatch, "ALTER TABLE autocron_job ADD COLUMN colour TEXT", "CREATE TABLE autocron_new (a)"
        )

        def use() -> dict[str, int]:
            return SqliteStore(path).counts()

        assert at_once([use] * 6) == [{"waiting": 1}] * 6
        assert schema(path) == "2"
        store.enqueue([job()])  # a process of the version before, still running
        assert store.counts() == {"waiting": 2}
    monkeypatch.undo()
    with pytest.raises(SchemaTooNew):
        SqliteStore(path).open()


def test_a_step_that_fails_leaves_the_schema_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
    add_a_step(monkeypatch, "CREATE TABLE autocron_new (a)", "CREATE TABLE autocron_new (a)")
    with pytest.raises(StoreError, match="autocron_new already exists"):
        SqliteStore(path).open()
    monkeypatch.undo()
    with closing(SqliteStore(path)) as store:
        assert store.counts() == {"waiting": 1}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM sqlite_master WHERE name = 'autocron_new'").fetchall() == []


# -- cost ------------------------------------------------------------------------------------------


def work(store: SqliteStore, function: Callable[[], object]) -> int:
    """The steps of SQLite's virtual machine (to the nearest ten) that a call takes: a clock without noise."""
    connections = [each for each in (own(store).writer, own(store).reader) if each is not None]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 10

    for connection in connections:
        connection.set_progress_handler(count, 10)
    function()
    for connection in connections:
        connection.set_progress_handler(None, 10)
    return steps


def test_a_claim_costs_the_same_however_many_jobs_wait(store: SqliteStore) -> None:
    epoch = store.take_epoch(OWNER)

    def add(number: int) -> None:
        due = [job(priority=each % 4, due=NOW - each) for each in range(number)]
        future = [job(priority=each % 4 + 2, due=NOW + SECOND + each) for each in range(number)]
        store.enqueue([*due, *future])

    def costs() -> list[int]:
        store.counts()
        return [
            work(store, lambda: store.claim(OWNER, epoch, 5, NOW)),
            work(store, lambda: store.claim(OWNER, epoch, 5, NOW - SECOND)),
            work(store, lambda: store.next_due(NOW)),
            work(store, lambda: store.purge(NOW)),
            work(store, lambda: store.revive(["shop.send_mail"])),
            work(store, lambda: store.unknown_tasks()),
            work(store, lambda: store.crons()),
            work(store, lambda: store.size()),
            work(store, lambda: store.jobs(limit=10)),
            work(store, lambda: store.jobs(state="running", limit=5)),
        ]

    add(50)
    few = costs()
    add(5000)
    many = costs()
    assert len(store.claim(OWNER, epoch, 5, NOW)) == 5
    for before, after in zip(few, many, strict=True):
        assert after <= before * 1.3 + 20, (few, many)
