"""Who reads the newsletter: one table in a SQLite file of the app's own."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from typing import NamedTuple

from flask import current_app

TABLE = """CREATE TABLE IF NOT EXISTS subscriber (
             address TEXT PRIMARY KEY, name TEXT NOT NULL, token TEXT UNIQUE, confirmed INTEGER NOT NULL)"""


class Counts(NamedTuple):
    """How many people are on the list, and how many of them want it."""

    all: int
    confirmed: int


def connect() -> sqlite3.Connection:
    """A new connection for each use: nothing to share between threads, nothing to carry across a fork."""
    connection = sqlite3.connect(current_app.config["SUBSCRIBERS"], isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(TABLE)
    return connection


def add(address: str, name: str = "", *, confirmed: bool = False) -> tuple[bool, str]:
    """Put somebody on the list. Whether the address is new, and the token of its confirmation link."""
    with closing(connect()) as connection:
        insert = "INSERT OR IGNORE INTO subscriber VALUES (?, ?, ?, ?)"
        added = (
            connection.execute(insert, (address, name, secrets.token_urlsafe(16), confirmed)).rowcount == 1
        )
        token = connection.execute("SELECT token FROM subscriber WHERE address = ?", (address,)).fetchone()[0]
    return added, token


def confirm(token: str) -> bool:
    """Note that the owner of the address has opened the link. Whether there is such a token."""
    with closing(connect()) as connection:
        return (
            connection.execute("UPDATE subscriber SET confirmed = 1 WHERE token = ?", (token,)).rowcount == 1
        )


def confirmed() -> list[str]:
    """The addresses to write to."""
    with closing(connect()) as connection:
        return [
            row[0] for row in connection.execute("SELECT address FROM subscriber WHERE confirmed ORDER BY 1")
        ]


def counts() -> Counts:
    """The two numbers on the page."""
    with closing(connect()) as connection:
        return Counts(
            *connection.execute("SELECT count(*), coalesce(sum(confirmed), 0) FROM subscriber").fetchone()
        )
