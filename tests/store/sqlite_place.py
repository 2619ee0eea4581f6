"""A SQLite store of a test, and how others get in its way."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from places import Child

from autocron_web.framelock import FrameLock
from autocron_web.store import sqlite_own
from autocron_web.store.sqlite import SqliteStore

OWNER = "machine"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's write transaction on the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("COMMIT")


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[Callable[[], object]]:
    """A write transaction of another process on the file, and what ends it."""
    ready, end = os.pipe(), os.pipe()

    def hold() -> None:
        with locked(path):
            os.write(ready[1], b"!")
            os.read(end[0], 1)

    child = Child(hold)
    os.read(ready[0], 1)
    yield lambda: os.write(end[1], b"!")
    child.result()
    for each in (*ready, *end):
        os.close(each)


def own(store: SqliteStore) -> sqlite_own.Own:
    return store._file.own()


def other_has(lock: FrameLock) -> bool:
    """Whether another thread holds the lock."""
    holder = lock.holder()
    return holder is not None and holder.thread != threading.get_ident()


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
