"""The floor: what the sqlite3 module itself needs for the commits of a job (WAL, synchronous=FULL)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

INSERT = "INSERT INTO job (state, due, payload) VALUES ('waiting', ?, ?)"
CLAIM = """UPDATE job SET state = 'running' WHERE id =
             (SELECT id FROM job WHERE state = 'waiting' ORDER BY due, id LIMIT 1) RETURNING id"""
FINISH = "UPDATE job SET state = 'done', finished = ? WHERE id = ? AND state = 'running'"


def connect(folder: Path) -> sqlite3.Connection:
    """A new database with one table of jobs; every statement is a commit."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state, due, payload, finished)"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS job_next ON job (due, id) WHERE state = 'waiting'")
    return connection


def enqueue(connection: sqlite3.Connection, count: int, pause: Callable[[], None]) -> list[int]:
    """Commit `count` single rows, one after each pause; the nanoseconds that each took."""
    taken = []
    for index in range(count):
        pause()
        begin = time.monotonic_ns()
        connection.execute(INSERT, (begin, b"%0100d" % index))
        taken.append(time.monotonic_ns() - begin)
    return taken


def drain(connection: sqlite3.Connection) -> float:
    """Claim and finish every waiting row, a commit each, in one process; rows per second."""
    begin = time.monotonic()
    count = 0
    while row := connection.execute(CLAIM).fetchone():
        connection.execute(FINISH, (time.time_ns(), row[0]))
        count += 1
    return count / (time.monotonic() - begin)
