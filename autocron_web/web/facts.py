"""What can be found out about a pool and its store within a second, whatever state they are in."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import AutocronError, StoreBusy, StoreError, StoreGone
from ..jobs import SECOND, Job, now
from ..launch import ask_monitor
from ..store import CronRow, Store

if TYPE_CHECKING:
    from ..engine import Engine

FRESH = 1.0  # seconds for which what was found out is used again: nobody can make us count all the time
DEADLINE = 0.8  # seconds that a look may take
BUSY = 0.5  # seconds that the store may be locked by somebody who does not get on
SILENT = 4.0  # seconds without an answer after which a monitor that seems to live counts as stuck
MOST = 20  # jobs of a kind that are listed
MANY = 100_000  # jobs: to count more takes a while, so that is done more rarely
RARELY = 100  # times as long as the counting took
LEAST_ROOM = 1 << 20  # bytes on the disk: with less, the next call may not be stored


VERDICT, FULL, DETAIL = range(3)  # what a verdict needs; numbers and failures too; what runs too


class Subject(NamedTuple):
    """Whose status it is: a database, or why there is none in this process."""

    path: str | None
    code: str = ""  # a reason of the verdict, where this process has no database
    trouble: str = ""

    @classmethod
    def of(cls, source: Engine | str | os.PathLike[str]) -> Subject:
        """From the engine of an app process, or the absolute path of a database."""
        if isinstance(source, str | os.PathLike):
            return cls(os.fspath(source))
        return cls(*source.situation())


class StoreFacts:
    """What the store answers. Filled step by step, by a thread that the store may hold up."""

    def __init__(self) -> None:
        self.code = "store_slow"  # empty as soon as everything that a verdict needs is known
        self.trouble = "the store has not answered yet"
        self.began = time.monotonic()
        self.next_due: int | None = None  # microseconds
        self.crons: list[CronRow] = []
        self.unknown: dict[str, int] = {}
        self.locked = False  # by `--set-autocron-lock on`
        self.size: int | None = None  # bytes
        self.wal_size: int | None = None  # bytes
        self.counts: dict[str, int] | None = None
        self.failed: list[Job] = []  # the newest ones
        self.running: list[Job] = []


class Facts(NamedTuple):
    """What was found out at `moment` (microseconds UTC)."""

    moment: int
    depth: int  # how much was asked for: one of the three below
    store: StoreFacts
    monitor: dict[str, Any] | None  # what it tells: see `autocron_web.pool.info`
    silent: float | None  # seconds for which it has been seen to live without an answer; inf: it is stopped
    store_waited: float  # seconds since the store was asked


class Watch:
    """One process's looks at one database: one at a time, each used again for `FRESH` seconds."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._looking = threading.Lock()
        self._latest: Facts | None = None
        self._looked = 0.0
        self._running: tuple[threading.Thread, StoreFacts] | None = None
        self._identity: tuple[int, int] | None = None  # of the file that was there at the first look
        self._seen = 0  # when that was
        self._silent_since: float | None = None
        self._locked_since: float | None = None
        self._counts: dict[str, int] = {}
        self._count_again = 0.0  # when

    def facts(self, depth: int) -> Facts:
        """A look of at most `DEADLINE` seconds, or what the latest one has found if that is as deep."""
        deadline = time.monotonic() + DEADLINE
        if not self._looking.acquire(timeout=DEADLINE):
            return self._latest or Facts(now(), VERDICT, StoreFacts(), None, 0.0, 0.0)
        try:
            latest = self._latest
            is_fresh = time.monotonic() - self._looked < FRESH
            if latest is None or not is_fresh or latest.depth < depth:
                latest = self._latest = self._look(depth, max(deadline, time.monotonic() + 0.1))
                self._looked = time.monotonic()
            return latest
        finally:
            self._looking.release()

    def locked_for(self, seconds: float) -> bool:
        """Whether every look for so long has found that somebody else holds the store."""
        return self._locked_since is not None and time.monotonic() - self._locked_since > seconds

    def _look(self, depth: int, deadline: float) -> Facts:
        thread, store = self._ask_store(depth)
        monitor, silent = self._ask_monitor(deadline)
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        if monitor is not None and monitor["started"] > self._seen and not monitor["store_trouble"]:
            self._identity = None  # a pool has begun since, and it looks after its file by itself
        return Facts(now(), depth, store, monitor, silent, time.monotonic() - store.began)

    # -- the monitor -------------------------------------------------------------------------------------

    def _ask_monitor(self, deadline: float) -> tuple[dict[str, Any] | None, float | None]:
        answer = ask_monitor(self.path, max(0.05, deadline - time.monotonic()))
        if isinstance(answer, dict) and "pid" in answer:
            self._silent_since = None
            return answer, None
        if not isinstance(answer, int):
            self._silent_since = None
            return None, None
        if _is_stopped(answer):
            return None, float("inf")
        current = time.monotonic()
        self._silent_since = self._silent_since or current
        return None, current - self._silent_since

    # -- the store ---------------------------------------------------------------------------------------

    def _ask_store(self, depth: int) -> tuple[threading.Thread | None, StoreFacts]:
        """Let a thread ask it, unless the one before still waits for its answer."""
        if self._running is not None and self._running[0].is_alive():
            return self._running
        facts = StoreFacts()
        thread = threading.Thread(target=self._fill, args=(facts, depth), name="autocron-status", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: then without a deadline, but with the busy timeout
            self._fill(facts, depth)
            return None, facts
        self._running = thread, facts
        return self._running

    def _fill(self, facts: StoreFacts, depth: int) -> None:
        try:
            self._refuse_another_file()
            store = open_store(self.path)
            try:
                self._ask(store, facts, depth)
            finally:
                store.close()
        except AutocronError as error:
            facts.trouble = str(error)
            facts.code = _code(error)
        except Exception as error:  # a status has to say something, whatever is in the way
            facts.code, facts.trouble = "store_unusable", f"{type(error).__name__}: {error}"
        if facts.code == "store_locked":
            self._locked_since = self._locked_since or facts.began
        elif not facts.code:
            self._locked_since = None

    def _ask(self, store: Store, facts: StoreFacts, depth: int) -> None:
        from ..store.sqlite_open import require_rights

        store.jobs(limit=1)  # a damaged file may show there only
        facts.next_due = store.next_due(now())
        facts.crons = store.crons()
        facts.unknown = store.unknown_tasks()
        facts.locked = store.setting("autocron_lock") == "on"
        with store.batch():  # what a call would begin with; without a write nothing is synced
            pass
        try:
            require_rights(self.path)  # SQLite begins a transaction also where it can only read
        except StoreError as error:
            facts.code, facts.trouble = "store_unwritable", str(error)
            return
        room = os.statvfs(os.path.dirname(self.path))
        if room.f_bavail * room.f_frsize < LEAST_ROOM:
            facts.code, facts.trouble = "store_full", "the disk of the database is full. Make room"
            return
        facts.size, facts.wal_size = store.size(), os.stat(f"{self.path}-wal").st_size
        facts.code = facts.trouble = ""
        if depth >= FULL:
            facts.failed = store.jobs(state="error", limit=MOST)
            facts.counts = self._count(store)
        if depth >= DETAIL:
            facts.running = store.jobs(state="running", limit=MOST)

    def _count(self, store: Store) -> dict[str, int]:
        """The number of jobs in each state. SQLite has to count them one by one."""
        began = time.monotonic()
        if began >= self._count_again:
            self._counts = store.counts()
            if sum(self._counts.values()) > MANY:
                self._count_again = began + RARELY * (time.monotonic() - began)
        return self._counts

    def _refuse_another_file(self) -> None:
        """Raise `StoreGone` if the file is not the one that it was at the first look."""
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreGone(
                f"there is no file {self.path}: it was deleted, or the application has never run"
            ) from None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be reached: {error.strerror}") from None
        if self._identity is None:
            self._identity, self._seen = (found.st_dev, found.st_ino), now()
        if self._identity != (found.st_dev, found.st_ino):
            raise StoreGone(f"{self.path} was replaced by another file. Restart the application")


def open_store(path: str, busy_timeout: float = BUSY) -> Store:
    """The store at this path, for those who look and make nothing."""
    from ..store.sqlite import SqliteStore

    return SqliteStore(path, busy_timeout=busy_timeout, must_exist=True)


_watches: dict[tuple[int, str], Watch] = {}


def watch(path: str) -> Watch:
    """This process's watch of a database; a fork makes its own."""
    key = os.getpid(), path
    return _watches.get(key) or _watches.setdefault(key, Watch(path))


_CODES = {
    sqlite3.SQLITE_CORRUPT: "store_corrupt",
    sqlite3.SQLITE_NOTADB: "store_corrupt",
    sqlite3.SQLITE_READONLY: "store_unwritable",
    sqlite3.SQLITE_FULL: "store_full",
}


def _code(error: AutocronError) -> str:
    if isinstance(error, StoreBusy):
        return "store_locked"
    if isinstance(error, StoreGone):
        return "store_gone"
    number = getattr(error.__cause__, "sqlite_errorcode", None)
    return "store_unusable" if number is None else _CODES.get(number & 0xFF, "store_unusable")


def _is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal (proc(5), state T or t), and so cannot answer."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


def age(moment: int, then: int) -> float:
    """Seconds from `then` to `moment`, both in microseconds."""
    return (moment - then) / SECOND
