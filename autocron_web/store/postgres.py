"""The store for several machines: a PostgreSQL database, by psycopg 3 (the extra `postgres`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..errors import StoreBusy, StoreError, WrongApplication
from ..jobs import ERROR_TTL, Job, begun_anew, interrupted, latest_slot
from . import CronRow, Recovery
from . import postgres_sql as sql
from .migrations import missing_steps
from .rows import job_of, meta_text, row_of, settled_row

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.pq import TransactionStatus
except ImportError as error:
    raise StoreError(
        f"A PostgreSQL database needs psycopg ({error}). Install it: pip install 'autocron-web[postgres]'"
    ) from error

Connection = psycopg.Connection[tuple[Any, ...]]
Values = Sequence[Any] | dict[str, Any]


class _Own:
    """What must not cross a fork. psycopg itself leaves a connection open that its process did not make."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.holder = 0  # the thread whose transaction is open
        self.connection: Connection | None = None


class PostgresStore:
    """A `Store` in a PostgreSQL database: `dsn` is a URL or a connection string of libpq.

    It shows that the schema and the protocol carry a second database, and passes the contract of all
    stores. Not here yet, so not for use between machines: leases with heartbeats by the database's clock,
    `LISTEN/NOTIFY`, more than one connection for a process, and waiting for a database that restarts.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        parts = {key: value for key, value in conninfo_to_dict(dsn).items() if key != "password"}
        self.name = make_conninfo("", **parts)
        self._owned: dict[int, _Own] = {}  # by pid; what was inherited stays in it, unused

    def __repr__(self) -> str:
        return f"PostgresStore({self.name!r})"

    # -- life -------------------------------------------------------------------------------

    def open(self) -> None:
        own = self._own()
        with own.lock:
            if own.connection is None or own.connection.closed:
                own.connection = self._connect()

    def close(self) -> None:
        own = self._own()
        with own.lock:
            if own.connection is not None:
                own.connection.close()
                own.connection = None

    def check(self) -> None:
        """Nothing: a name leads to one database."""

    def changed(self) -> bool:
        return True  # PostgreSQL does not tell; LISTEN/NOTIFY will

    def tidy(self) -> None:
        pass  # its server does

    def adopt(self, app_id: str) -> None:
        with self._transaction() as connection:
            _run(connection, sql.SET_META_ONCE, ("app_id", app_id))
            [(owner,)] = _run(connection, sql.GET_META, ("app_id",)).fetchall()
        if owner != app_id:
            raise WrongApplication(
                f"{self.name} belongs to the application {owner!r}, and this is {app_id!r}. Give each "
                "application a database of its own, or both the same app_id if they are one."
            )

    # -- the caller's side ---------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        with self._transaction() as connection:
            return _insert(connection, jobs)

    def get(self, job_id: str) -> Job | None:
        rows = self._read(sql.GET, (job_id,))
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
        return [job_of(row) for row in self._read(sql.PAGE if state is None else sql.PAGE_OF_STATE, page)]

    def counts(self) -> dict[str, int]:
        return dict(self._read(sql.COUNTS))

    def cancel(self, job_id: str, now: int, reason: str) -> bool:
        return self._write(sql.CANCEL, (reason, now, now + ERROR_TTL, job_id)) == 1

    def retry(self, job_id: str, now: int) -> bool:
        job = self.get(job_id)
        if job is None:
            return False
        values: dict[str, Any] = {"id": job_id, "now": now, "meta": meta_text(begun_anew(job).meta)}
        with self._transaction() as connection:
            _run(connection, sql.EXPIRE_RIVAL, values | {"kept_until": now + ERROR_TTL})
            return _run(connection, sql.RETRY, values).rowcount == 1

    def unknown_tasks(self) -> dict[str, int]:
        return dict(self._read(sql.UNKNOWN_TASKS))

    def size(self) -> int:
        return int(self._read(sql.SIZE)[0][0])

    # -- the monitor's side -----------------------------------------------------------------

    def batch(self, *, durable: bool = True) -> AbstractContextManager[None]:
        return self._batch(durable)

    @contextmanager
    def _batch(self, durable: bool) -> Iterator[None]:
        with self._transaction(durable=durable):
            yield

    def take_epoch(self, owner: str) -> int:
        with self._transaction() as connection:
            [(epoch,)] = _run(connection, sql.NEXT_EPOCH).fetchall()
            _run(connection, sql.SET_META, (f"epoch:{owner}", str(epoch)))
        return int(epoch)

    def newest_epoch(self, owner: str) -> int:
        found = self._read(sql.GET_META, (f"epoch:{owner}",))
        return int(found[0][0]) if found else 0

    def recover(self, owner: str, epoch: int, now: int, most: int) -> Recovery:
        values = {"owner": owner, "epoch": epoch, "most": most}
        with self._transaction() as connection:
            often = map(job_of, _run(connection, sql.RECOVER_OFTEN, values).fetchall())
            given_up = [end for job in often if (end := interrupted(job, now, most)).state == "error"]
            self._write_many(sql.SETTLE, [settled_row(job, job.epoch or 0) for job in given_up])
            waiting = _run(connection, sql.RECOVER_WAITING, values).rowcount
        return Recovery(waiting, len(given_up))

    def claim(self, owner: str, epoch: int, limit: int, now: int) -> list[Job]:
        values = {"owner": owner, "epoch": epoch, "limit": limit, "now": now}
        with self._transaction() as connection:
            rows = _run(connection, sql.CLAIM, values).fetchall()
        return sorted(map(job_of, rows), key=lambda job: (-job.priority, job.due, job.seq))

    def settle(self, jobs: Sequence[Job], epoch: int) -> int:
        return self._write_many(sql.SETTLE, [settled_row(job, epoch) for job in jobs])

    def annotate(self, job_id: str, epoch: int, meta: dict[str, Any]) -> bool:
        return self._write(sql.ANNOTATE, (meta_text(meta), job_id, epoch)) == 1

    def next_due(self, now: int) -> int | None:
        due: int | None = self._read(sql.NEXT_DUE, (now,))[0][0]
        return due

    def revive(self, tasks: Sequence[str]) -> int:
        return self._write_many(sql.REVIVE, [(task,) for task in tasks])

    def purge(self, now: int, limit: int = 1000) -> int:
        values = {"now": now, "kept_until": now + ERROR_TTL, "limit": limit}
        with self._transaction() as connection:
            cancelled = _run(connection, sql.PURGE_LATE, values).rowcount
            deleted = _run(connection, sql.PURGE_FINISHED, values | {"limit": limit - cancelled}).rowcount
        return cancelled + deleted

    # -- cron -----------------------------------------------------------------------------------

    def see_cron(self, name: str, schedule: str, zone: str, now: int) -> int:
        with self._transaction() as connection:
            values = {"name": name, "schedule": schedule, "zone": zone, "now": now}
            _run(connection, sql.SEE_CRON, values)
            ahead = {"name": name, "now": now, "latest": latest_slot(now), "kept_until": now + ERROR_TTL}
            if _run(connection, sql.RECALL_CRON, ahead).rowcount:
                _run(connection, sql.CANCEL_RECALLED, ahead)
            [(last_slot,)] = _run(connection, sql.LAST_SLOT, (name,)).fetchall()
        return int(last_slot)

    def take_slot(self, name: str, slot: int, job: Job | None) -> bool:
        with self._transaction() as connection:
            taken = _run(connection, sql.TAKE_SLOT, {"name": name, "slot": slot}).rowcount == 1
            if taken and job is not None:
                _insert(connection, [job])
        return taken

    def crons(self) -> list[CronRow]:
        return [CronRow(*row) for row in self._read(sql.CRONS)]

    # -- settings -------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        rows = self._read(sql.GET_SETTING, (key,))
        return rows[0][0] if rows else None

    def set_setting(self, key: str, value: str | None) -> None:
        if value is None:
            self._write(sql.DELETE_SETTING, (key,))
        else:
            self._write(sql.SET_SETTING, (key, value))

    def settings(self) -> dict[str, str]:
        return dict(self._read(sql.ALL_SETTINGS))

    # -- inside ---------------------------------------------------------------------------------

    def _own(self) -> _Own:
        pid = os.getpid()
        return self._owned.get(pid) or self._owned.setdefault(pid, _Own())

    def _connect(self) -> Connection:
        try:
            connection = psycopg.connect(self._dsn, autocommit=True, application_name="autocron-web")
        except psycopg.Error as error:
            raise self._explained(error) from error
        try:
            _migrate(connection, self.name)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise self._explained(error) from error
            raise
        return connection

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction, committed on leaving; inside another one of the same thread, a part of it."""
        own = self._own()
        with own.lock:
            joins = own.holder == threading.get_ident()
            if not joins:
                self.open()
            connection = own.connection
            assert connection is not None
            try:
                if joins:
                    _refuse_a_failed_batch(connection)
                else:
                    if connection.info.transaction_status != TransactionStatus.IDLE:
                        _run(connection, sql.ROLLBACK)  # of somebody who was interrupted
                    _run(connection, sql.BEGIN if durable else sql.BEGIN_WITHOUT_SYNC)
                    own.holder = threading.get_ident()
                yield connection
                if not joins:
                    _refuse_a_failed_batch(connection)
                    _run(connection, sql.COMMIT)
            except BaseException as error:
                # A part that has failed half-way must not be committed with the rest.
                if connection.info.transaction_status not in (
                    TransactionStatus.IDLE,
                    TransactionStatus.UNKNOWN,
                ):
                    _run(connection, sql.ROLLBACK)
                if isinstance(error, psycopg.Error) and (error.sqlstate or connection.broken):
                    raise self._explained(error) from error
                raise
            finally:
                if not joins:
                    own.holder = 0

    def _read(self, query: str, values: Values = ()) -> list[Any]:
        with self._transaction() as connection:
            return _run(connection, query, values).fetchall()

    def _write(self, statement: str, values: Values) -> int:
        with self._transaction() as connection:
            return _run(connection, statement, values).rowcount

    def _write_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        with self._transaction() as connection:
            return _each(connection, statement, rows)

    def _explained(self, error: psycopg.Error) -> StoreError:
        if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
            return StoreBusy(f"{self.name} was locked by somebody else, and nothing was stored. Try again.")
        return StoreError(f"{self.name} cannot be used: {str(error).strip()}")


def _run(
    connection: Connection, statement: str, values: Values | None = None
) -> psycopg.Cursor[tuple[Any, ...]]:
    # As bytes: psycopg takes a `str` only where a type checker can see that it is a literal.
    return connection.execute(statement.encode(), values)


def _migrate(connection: Connection, name: str) -> None:
    """Run the steps that the schema lacks, in one transaction and under a lock of the database."""
    if not missing_steps(_schema(connection), sql.STEPS, name):
        return
    with connection.transaction():
        _run(connection, sql.LOCK_SCHEMA)
        for step in missing_steps(_schema(connection), sql.STEPS, name):
            for statement in step:
                _run(connection, statement)
        _run(connection, sql.SET_META, ("schema", str(len(sql.STEPS))))


def _schema(connection: Connection) -> int:
    [(has_meta,)] = _run(connection, sql.HAS_META).fetchall()
    row = _run(connection, sql.GET_META, ("schema",)).fetchone() if has_meta else None
    return int(row[0]) if row else 0


def _refuse_a_failed_batch(connection: Connection) -> None:
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        raise StoreError("Nothing of this batch is stored, since an earlier call in it failed.")


def _insert(connection: Connection, jobs: Sequence[Job]) -> list[str]:
    """Add the jobs, and answer with the id of each, or of the job that is there in its place."""
    if all(job.unique_key is None for job in jobs):
        _each(connection, sql.INSERT, [row_of(job) for job in jobs])
        return [job.id for job in jobs]
    return [_insert_one(connection, job) for job in jobs]


def _insert_one(connection: Connection, job: Job) -> str:
    while True:
        if _run(connection, sql.INSERT, row_of(job)).rowcount:
            return job.id
        sought = {"id": job.id, "key": job.unique_key}
        if found := _run(connection, sql.FIND_EXISTING, sought).fetchone():
            expired = {"id": found[0], "now": job.created, "kept_until": job.created + ERROR_TTL}
            if found[0] == job.id or not _run(connection, sql.EXPIRE, expired).rowcount:
                return str(found[0])
        # The job that had the key has finished between the two statements, or it will never begin, as it has
        # expired: now there is room.


def _each(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    with connection.cursor() as cursor:
        cursor.executemany(statement.encode(), rows)
        return cursor.rowcount
