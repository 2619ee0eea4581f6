"""What SQLite's errors mean for a user, as sentences that say what to do."""

from __future__ import annotations

import os
import sqlite3

from ..errors import StoreBusy, StoreError

_ADVICE = {
    sqlite3.SQLITE_FULL: "The disk is full, so nothing was stored. Make room; the next call tries again.",
    sqlite3.SQLITE_READONLY: (
        "The file or its file system is read-only. Let user {uid} write the file and its folder, and also "
        "{name}-wal and {name}-shm if they are there."
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "User {uid} must be able to read and write the file and its folder, where SQLite makes "
        "{name}-wal and {name}-shm, on a file system that is not read-only."
    ),
    sqlite3.SQLITE_PERM: "Let user {uid} read and write the file and its folder.",
    sqlite3.SQLITE_CORRUPT: (
        "The file is damaged and was left as it is. Restore a backup, or save what can be read with "
        "`sqlite3 {name} .recover`, and move the file away to begin anew."
    ),
    sqlite3.SQLITE_NOTADB: (
        "The file is not a SQLite database and was left as it is. Give another database name."
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk (or a limit on file sizes) refused to read or write, so the call may not be on disk. "
        "Look into the system's log; the next call opens the file anew."
    ),
}

#: After these, what SQLite has in memory may differ from the file: the next call is to connect anew.
RECONNECT = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}


def code_of(error: BaseException) -> int | None:
    """SQLite's primary code (https://sqlite.org/rescode.html); None if the error is not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether somebody else holds what the call needs."""
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(error: sqlite3.Error, path: str, busy_timeout: float) -> StoreError:
    """The error as one of ours: which file, what happened, what to do."""
    if is_busy(error):
        return StoreBusy(
            f"{path} was locked by somebody else for {busy_timeout:g} seconds, and nothing was stored. "
            "Try again; if it stays locked, look for a program that keeps a transaction open."
        )
    advice = _ADVICE.get(code_of(error) or 0, "Nothing was stored.")
    advice = advice.format(uid=os.geteuid(), name=os.path.basename(path))
    return StoreError(f"{path} cannot be used: {error} ({error.sqlite_errorname}). {advice}")
