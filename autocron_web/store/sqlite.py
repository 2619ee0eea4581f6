"""The default store: one SQLite file, shared by the app processes and the monitor of one machine."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from ..errors import WrongApplication
from ..jobs import ERROR_TTL, Job, begun_anew, interrupted, latest_slot
from . import CronRow, Recovery
from . import sqlite_sql as sql
from .rows import done_rows, job_of, meta_text, row_of, settled_row
from .sqlite_file import SqliteFile
from .sqlite_own import Own


class SqliteStore:
    """A `Store` in the SQLite file `path`, which is made at the first use, in a folder that exists.

    `durability` is what holds after a power loss: with "full" (synchronous=FULL) every call that
    returned, with "normal" (synchronous=NORMAL) perhaps not those of the last seconds; a crash of
    processes loses nothing with either. `busy_timeout` is how many seconds a call waits for somebody
    who holds the file before it raises `StoreBusy`. With `must_exist`, for those who only look, nothing is
    made: where there is no such database each call raises `StoreError`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout: float = 5.0,
        must_exist: bool = False,
    ) -> None:
        self.name = os.path.abspath(path)
        self._file = SqliteFile(self.name, durability, busy_timeout, must_exist)

    def __repr__(self) -> str:
        return f"SqliteStore({self.name!r})"

    # -- life -------------------------------------------------------------------------------

    def open(self) -> None:
        self._file.open()

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        self._file.check()

    def changed(self) -> bool:
        return self._file.changed()

    def tidy(self) -> None:
        self._file.tidy()

    def adopt(self, app_id: str) -> None:
        owner = self._file.read(sql.GET_META, ("app_id",))
        if not owner:
            self._write(sql.SET_META_ONCE, ("app_id", app_id))
            owner = self._file.read(sql.GET_META, ("app_id",))
        if owner[0][0] != app_id:
            raise WrongApplication(
                f"{self.name} belongs to the application {owner[0][0]!r}, and this is {app_id!r}. Give each "
                "application a database of its own, or both the same app_id if they are one."
            )

    # -- the caller's side ---------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        if not jobs:
            return []
        own = self._file.own()
        if own.is_mine():
            with self._file.transaction() as connection:
                return _insert(connection, jobs)
        call = _Enqueue(jobs)
        leads = False
        try:
            with own.commit:
                own.pending.append(call)
                while own.committing and call.answer is None:
                    own.commit.wait()
                if call.answer is None:
                    leads = own.committing = True
            if leads:
                self._write_pending(own, call)
        finally:
            with own.commit:
                if call.answer is None and call in own.pending:
                    own.pending.remove(call)  # what fails here is not to be stored by somebody else
                if leads:
                    own.committing = False
                    own.commit.notify_all()
        if isinstance(call.answer, list):
            return call.answer
        assert call.answer is not None
        raise call.answer

    def _write_pending(self, own: Own, mine: _Enqueue) -> None:
        """Group commit: the first one writes for all who wait meanwhile, with one sync of the disk."""
        calls = [mine]
        try:
            with self._file.transaction(mine.since) as connection:
                calls = _drain(own, mine)
                answers = [_insert(connection, call.jobs) for call in calls]
        except Exception:
            if len(calls) == 1:
                raise
        else:
            for call, answer in zip(calls, answers, strict=True):
                call.answer = answer
            return
        # One call can fail for all, with a value that SQLite cannot store or with more than the disk holds.
        for call in calls:
            try:
                with self._file.transaction(call.since) as connection:
                    answer = _insert(connection, call.jobs)
                call.answer = answer
            except Exception as error:
                call.answer = error

    def get(self, job_id: str) -> Job | None:
        rows = self._file.read(sql.GET, (job_id,))
        return job_of(rows[0]) if rows else None

    def jobs(
        self,
        *,
        state: str | None = None,
        task: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        page = {"state": state, "task": task, "limit": limit, "before": before}
        rows = self._file.read(sql.PAGE if state is None else sql.PAGE_OF_STATE, page)
        return [job_of(row) for row in rows]

    def counts(self) -> dict[str, int]:
        return dict(self._file.read(sql.COUNTS))

    def cancel(self, job_id: str, now: int, reason: str) -> bool:
        return self._write(sql.CANCEL, (reason, now, now + ERROR_TTL, job_id)) == 1

    def retry(self, job_id: str, now: int) -> bool:
        job = self.get(job_id)
        if job is None:
            return False
        values: dict[str, Any] = {"id": job_id, "now": now, "meta": meta_text(begun_anew(job).meta)}
        return self._write(sql.RETRY, values) == 1

    def unknown_tasks(self) -> dict[str, int]:
        return dict(self._file.read(sql.UNKNOWN_TASKS))

    def size(self) -> int:
        return int(self._file.read(sql.SIZE)[0][0])

    def other_tables(self) -> list[str]:
        """The tables in the file that are not the store's."""
        return [name for (name,) in self._file.read(sql.OTHER_TABLES)]

    # -- the monitor's side -----------------------------------------------------------------

    def batch(self, *, durable: bool = True) -> AbstractContextManager[None]:
        return self._batch(durable)

    @contextmanager
    def _batch(self, durable: bool) -> Iterator[None]:
        with self._file.transaction(durable=durable):
            yield

    def take_epoch(self, owner: str) -> int:
        with self._file.transaction() as connection:
            epoch = int(connection.execute(sql.NEXT_EPOCH).fetchall()[0][0])
            connection.execute(sql.SET_META, (f"epoch:{owner}", str(epoch)))
        return epoch

    def newest_epoch(self, owner: str) -> int:
        found = self._file.read(sql.GET_META, (f"epoch:{owner}",))
        return int(found[0][0]) if found else 0

    def recover(self, owner: str, epoch: int, now: int, most: int) -> Recovery:
        values = {"owner": owner, "epoch": epoch, "most": most}
        with self._file.transaction() as connection:
            often = map(job_of, connection.execute(sql.RECOVER_OFTEN, values).fetchall())
            given_up = [end for job in often if (end := interrupted(job, now, most)).state == "error"]
            self._write_many(sql.SETTLE, [settled_row(job, job.epoch or 0) for job in given_up])
            waiting = connection.execute(sql.RECOVER_WAITING, values).rowcount
        return Recovery(waiting, len(given_up))

    def claim(self, owner: str, epoch: int, limit: int, now: int) -> list[Job]:
        with self._file.transaction() as connection:
            seqs: list[int] = []
            for priority in self._levels():
                level = {"priority": priority, "now": now, "limit": limit - len(seqs)}
                seqs += [seq for (seq,) in connection.execute(sql.DUE, level)]
                if len(seqs) >= limit:
                    break
            if not seqs:
                return []
            values = {"owner": owner, "epoch": epoch, "now": now, "seqs": json.dumps(seqs)}
            rows = connection.execute(sql.CLAIM, values).fetchall()
        # RETURNING answers in any order: https://sqlite.org/lang_returning.html, section 3.
        return sorted(map(job_of, rows), key=lambda job: (-job.priority, job.due, job.seq))

    def _levels(self) -> Iterator[int]:
        """The priorities of jobs that can be claimed, highest first."""
        [(priority,)] = self._file.read(sql.TOP_LEVEL)
        while priority is not None:
            yield priority
            [(priority,)] = self._file.read(sql.NEXT_LEVEL, (priority,))

    def settle(self, jobs: Sequence[Job], epoch: int) -> int:
        done = [job for job in jobs if job.state == "done"]
        others = [settled_row(job, epoch) for job in jobs if job.state != "done"]
        settled = self._write_many(sql.SETTLE, others)
        if done:
            ends, results = done_rows(done)
            settled += self._write(sql.SETTLE_DONE, {"ends": ends, "results": results, "epoch": epoch})
        return settled

    def annotate(self, job_id: str, epoch: int, meta: dict[str, Any]) -> bool:
        return self._write(sql.ANNOTATE, (meta_text(meta), job_id, epoch)) == 1

    def next_due(self, now: int) -> int | None:
        first = [row for level in self._levels() for row in self._file.read(sql.NEXT_DUE, (level, now))]
        return min((due for (due,) in first), default=None)

    def revive(self, tasks: Sequence[str]) -> int:
        return self._write_many(sql.REVIVE, [(task,) for task in tasks])

    def purge(self, now: int, limit: int = 1000) -> int:
        values = {"now": now, "kept_until": now + ERROR_TTL, "limit": limit}
        with self._file.transaction() as connection:
            cancelled = connection.execute(sql.PURGE_LATE, values).rowcount
            deleted = connection.execute(sql.PURGE_FINISHED, values | {"limit": limit - cancelled}).rowcount
        return cancelled + deleted

    # -- cron -----------------------------------------------------------------------------------

    def see_cron(self, name: str, schedule: str, zone: str, now: int) -> int:
        with self._file.transaction() as connection:
            values = {"name": name, "schedule": schedule, "zone": zone, "now": now}
            connection.execute(sql.SEE_CRON, values)
            ahead = {"name": name, "now": now, "latest": latest_slot(now), "kept_until": now + ERROR_TTL}
            if connection.execute(sql.RECALL_CRON, ahead).rowcount:
                connection.execute(sql.CANCEL_RECALLED, ahead)
            return int(connection.execute(sql.LAST_SLOT, (name,)).fetchone()[0])

    def take_slot(self, name: str, slot: int, job: Job | None) -> bool:
        with self._file.transaction() as connection:
            taken = connection.execute(sql.TAKE_SLOT, {"name": name, "slot": slot}).rowcount == 1
            if taken and job is not None:
                _insert(connection, [job])
        return taken

    def crons(self) -> list[CronRow]:
        return [CronRow(*row) for row in self._file.read(sql.CRONS)]

    # -- settings -------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        rows = self._file.read(sql.GET_SETTING, (key,))
        return rows[0][0] if rows else None

    def set_setting(self, key: str, value: str | None) -> None:
        if value is None:
            self._write(sql.DELETE_SETTING, (key,))
        else:
            self._write(sql.SET_SETTING, (key, value))

    def settings(self) -> dict[str, str]:
        return dict(self._file.read(sql.ALL_SETTINGS))

    # -- inside ---------------------------------------------------------------------------------

    def _write(self, statement: str, values: Sequence[Any] | dict[str, Any]) -> int:
        with self._file.transaction() as connection:
            return connection.execute(statement, values).rowcount

    def _write_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        with self._file.transaction() as connection:
            return connection.executemany(statement, rows).rowcount


class _Enqueue:
    """One call of `enqueue` that waits for a commit, and what becomes of it."""

    __slots__ = ("answer", "jobs", "since")

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.since = time.monotonic()
        self.answer: list[str] | Exception | None = None


def _drain(own: Own, mine: _Enqueue) -> list[_Enqueue]:
    """The calls that wait. `mine` is among them, also if somebody took it and was interrupted."""
    calls = [mine]
    while own.pending:
        call = own.pending.popleft()
        if call is not mine:
            calls.append(call)
    return calls


def _insert(connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[str]:
    """Add the jobs, and answer with the id of each, or of the job that is there in its place."""
    if all(job.unique_key is None for job in jobs):
        connection.executemany(sql.INSERT, map(row_of, jobs))
        return [job.id for job in jobs]
    ids = []
    for job in jobs:
        if connection.execute(sql.INSERT, row_of(job)).rowcount:
            ids.append(job.id)
        else:
            sought = {"id": job.id, "key": job.unique_key}
            ids.append(connection.execute(sql.FIND_EXISTING, sought).fetchone()[0])
    return ids
