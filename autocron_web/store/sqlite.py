"""The default store: one SQLite file, shared by the app processes and the monitor of one machine."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from ..errors import WrongApplication
from ..jobs import ERROR_TTL, Job, begun_anew, interrupted, latest_slot
from . import CronRow, Recovery
from . import sqlite_sql as sql
from .rows import done_rows, job_of, meta_text, settled_row
from .sqlite_batch import Batch
from .sqlite_enqueue import enqueue, insert
from .sqlite_file import SqliteFile


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
        return enqueue(self._file, jobs) if jobs else []

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
        values["kept_until"] = now + ERROR_TTL

        def retry(connection: sqlite3.Connection) -> bool:
            connection.execute(sql.EXPIRE_RIVAL, values)
            return connection.execute(sql.RETRY, values).rowcount == 1

        return self._file.write(retry)

    def unknown_tasks(self) -> dict[str, int]:
        return dict(self._file.read(sql.UNKNOWN_TASKS))

    def size(self) -> int:
        return int(self._file.read(sql.SIZE)[0][0])

    def other_tables(self) -> list[str]:
        """The tables in the file that are not the store's."""
        return [name for (name,) in self._file.read(sql.OTHER_TABLES)]

    # -- the monitor's side -----------------------------------------------------------------

    def batch(self, *, durable: bool = True) -> AbstractContextManager[None]:
        return Batch(self._file, durable)

    def take_epoch(self, owner: str) -> int:
        def take(connection: sqlite3.Connection) -> int:
            epoch = int(connection.execute(sql.NEXT_EPOCH).fetchall()[0][0])
            connection.execute(sql.SET_META, (f"epoch:{owner}", str(epoch)))
            return epoch

        return self._file.write(take)

    def newest_epoch(self, owner: str) -> int:
        found = self._file.read(sql.GET_META, (f"epoch:{owner}",))
        return int(found[0][0]) if found else 0

    def recover(self, owner: str, epoch: int, now: int, most: int) -> Recovery:
        values = {"owner": owner, "epoch": epoch, "most": most}

        def recover(connection: sqlite3.Connection) -> Recovery:
            often = map(job_of, connection.execute(sql.RECOVER_OFTEN, values).fetchall())
            given_up = [end for job in often if (end := interrupted(job, now, most)).state == "error"]
            connection.executemany(sql.SETTLE, [settled_row(job, job.epoch or 0) for job in given_up])
            waiting = connection.execute(sql.RECOVER_WAITING, values).rowcount
            return Recovery(waiting, len(given_up))

        return self._file.write(recover)

    def claim(self, owner: str, epoch: int, limit: int, now: int) -> list[Job]:
        def claim(connection: sqlite3.Connection) -> list[Any]:
            seqs: list[int] = []
            for priority in _levels(connection):
                level = {"priority": priority, "now": now, "limit": limit - len(seqs)}
                seqs += [seq for (seq,) in connection.execute(sql.DUE, level)]
                if len(seqs) >= limit:
                    break
            if not seqs:
                return []
            values = {"owner": owner, "epoch": epoch, "now": now, "seqs": json.dumps(seqs)}
            return connection.execute(sql.CLAIM, values).fetchall()

        rows = self._file.write(claim)
        # RETURNING answers in any order: https://sqlite.org/lang_returning.html, section 3.
        return sorted(map(job_of, rows), key=lambda job: (-job.priority, job.due, job.seq))

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
        def find(connection: sqlite3.Connection) -> list[Any]:
            levels = list(_levels(connection))
            return [row for level in levels for row in connection.execute(sql.NEXT_DUE, (level, now))]

        return min((due for (due,) in self._file.look(find)), default=None)

    def revive(self, tasks: Sequence[str]) -> int:
        return self._write_many(sql.REVIVE, [(task,) for task in tasks])

    def purge(self, now: int, limit: int = 1000) -> int:
        values = {"now": now, "kept_until": now + ERROR_TTL, "limit": limit}

        def purge(connection: sqlite3.Connection) -> int:
            cancelled = connection.execute(sql.PURGE_LATE, values).rowcount
            rest = values | {"limit": limit - cancelled}
            return cancelled + connection.execute(sql.PURGE_FINISHED, rest).rowcount

        return self._file.write(purge)

    # -- cron -----------------------------------------------------------------------------------

    def see_cron(self, name: str, schedule: str, zone: str, now: int) -> int:
        def see(connection: sqlite3.Connection) -> int:
            values = {"name": name, "schedule": schedule, "zone": zone, "now": now}
            connection.execute(sql.SEE_CRON, values)
            ahead = {"name": name, "now": now, "latest": latest_slot(now), "kept_until": now + ERROR_TTL}
            if connection.execute(sql.RECALL_CRON, ahead).rowcount:
                connection.execute(sql.CANCEL_RECALLED, ahead)
            return int(connection.execute(sql.LAST_SLOT, (name,)).fetchone()[0])

        return self._file.write(see)

    def take_slot(self, name: str, slot: int, job: Job | None) -> bool:
        def take(connection: sqlite3.Connection) -> bool:
            taken = connection.execute(sql.TAKE_SLOT, {"name": name, "slot": slot}).rowcount == 1
            if taken and job is not None:
                insert(connection, [job])
            return taken

        return self._file.write(take)

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
        return self._file.write(lambda connection: connection.execute(statement, values).rowcount)

    def _write_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        return self._file.write(lambda connection: connection.executemany(statement, rows).rowcount)


def _levels(connection: sqlite3.Connection) -> Iterator[int]:
    """The priorities of jobs that can be claimed, highest first: `options.LOWEST` … `HIGHEST` at most."""
    [(priority,)] = connection.execute(sql.TOP_LEVEL)
    while priority is not None:
        yield priority
        [(priority,)] = connection.execute(sql.NEXT_LEVEL, (priority,))
