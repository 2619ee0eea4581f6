"""Enqueues of the SQLite store: one thread writes for all that wait, with one sync of the disk."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Sequence
from types import FrameType

from ..errors import StoreError
from ..framelock import Running
from ..jobs import ERROR_TTL, Job
from . import sqlite_sql as sql
from .rows import row_of
from .sqlite_file import SqliteFile
from .sqlite_own import Own

#: What one call can bring upon all that are written with it: a value that SQLite cannot store, or more than
#: the disk holds. Anything else is none of their business: a signal handler has raised it.
_OF_A_CALL = (sqlite3.Error, StoreError, OverflowError, UnicodeError, TypeError)


class Call(Running):
    """One call of `enqueue`, as long as it runs, and what becomes of it."""

    __slots__ = ("alone", "answer", "jobs", "since")

    def __init__(self, frame: FrameType, jobs: Sequence[Job]) -> None:
        super().__init__(frame)
        self.jobs = jobs
        self.since = time.monotonic()
        self.alone = False  # not to be written with others: one of them may have failed for all
        self.answer: list[str] | None = None


def enqueue(file: SqliteFile, jobs: Sequence[Job]) -> list[str]:
    """Store the jobs, durably on return. The id of each, or of the job that is there in its place."""
    own = file.own()
    if own.is_in_batch():
        return file.write(lambda connection: insert(connection, jobs))
    mine = Call(sys._getframe(), jobs)
    try:
        own.pending[mine] = None
        while mine.answer is None:
            _write_pending(file, own, mine)
        return mine.answer
    finally:
        own.pending.pop(mine, None)
        mine.frame = None


def _write_pending(file: SqliteFile, own: Own, mine: Call) -> None:
    """Wait until somebody has written this call, or write it, and all that wait by then."""
    group: list[Call] = []

    def write(connection: sqlite3.Connection) -> list[list[str]]:
        group[:] = [mine] if mine.alone else _group(own, mine)
        return [insert(connection, call.jobs) for call in group]

    def answer(answers: list[list[str]]) -> None:
        # If this is interrupted, those without an answer write again. The ids are there already.
        for call, ids in zip(group, answers, strict=True):
            call.answer = ids

    def answered() -> list[list[str]] | None:
        return None if mine.answer is None else []

    try:
        file.write(write, since=mine.since, then=answer, unless=answered)
    except _OF_A_CALL:
        if len(group) < 2:
            raise
        for call in group:
            call.alone = True


def _group(own: Own, mine: Call) -> list[Call]:
    """The calls that wait to be written, `mine` first. Those that were interrupted are forgotten."""
    group = [mine]
    for call in list(own.pending):
        if call.is_over():
            own.pending.pop(call, None)
        elif call is not mine and not call.alone and call.answer is None:
            group.append(call)
    return group


def insert(connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[str]:
    """Add the jobs, and answer with the id of each, or of the job that is there in its place."""
    if all(job.unique_key is None for job in jobs):
        connection.executemany(sql.INSERT, [row_of(job) for job in jobs])
        return [job.id for job in jobs]
    return [_insert_one(connection, job) for job in jobs]


def _insert_one(connection: sqlite3.Connection, job: Job) -> str:
    while True:
        if connection.execute(sql.INSERT, row_of(job)).rowcount:
            return job.id
        sought = {"id": job.id, "key": job.unique_key}
        found = str(connection.execute(sql.FIND_EXISTING, sought).fetchone()[0])
        expired = {"id": found, "now": job.created, "kept_until": job.created + ERROR_TTL}
        if found == job.id or not connection.execute(sql.EXPIRE, expired).rowcount:
            return found
        # The job that had the key will never begin: now there is room.
