"""One SQLite file as one process sees it: connections, transactions, and what a fork leaves of them."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import StoreError, StoreGone
from . import sqlite_sql as sql
from .descriptors import (
    lead_to_deleted_files,
    look_at,
    of_database,
    set_aside,
    still_open,
)
from .sqlite_errors import RECONNECT, code_of, explain, is_busy
from .sqlite_open import (
    connect,
    make_file,
    prepare,
    refuse_environment,
    require_file,
    require_rights,
    require_tables,
    roll_back,
)
from .sqlite_own import INHERITED, OPENING, Own

LARGE_WAL = 8 << 20  # bytes: twice what it has when SQLite begins it anew, a thousand pages


#: The files of this process, for the hooks at the end of this module.
_FILES: weakref.WeakSet[SqliteFile] = weakref.WeakSet()


class SqliteFile:
    """Transactions on a file, one at a time in a process, and reads beside them.

    Every method may be called from any thread; errors of SQLite come out as `StoreError`.
    """

    def __init__(self, path: str, durability: str, busy_timeout: float, must_exist: bool) -> None:
        self.path = path
        self._must_exist = must_exist
        self._synchronous = sql.SYNCHRONOUS[durability]
        self._busy_timeout = busy_timeout
        self._owned: dict[int, Own] = {}  # by pid
        self._identity: tuple[int, int] | None = None  # device and inode of the file that was opened
        self._gone: str | None = None
        _FILES.add(self)

    def own(self) -> Own:
        """This process's own part, made at its first use; what was inherited is put aside unclosed.

        No lock is taken for it, since an inherited lock may be held for ever: `setdefault` is atomic.
        """
        pid = os.getpid()
        own = self._owned.get(pid)
        if own is None:
            INHERITED.extend(self._owned.values())
            own = self._owned.setdefault(pid, Own())
        return own

    # -- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the file if there is none, and bring its schema to this version."""
        own = self.own()
        with own.write_lock:
            self._check_place()
            if own.writer is None:
                with self._noting(own):
                    own.writer = self._open_writer()

    def close(self) -> None:
        """Close this process's connections, and forget which file it was."""
        own = self._intact()
        with own.write_lock, own.read_lock:
            own.close_writer()
            own.close_reader()
            own.descriptors = {}
            self._identity = self._gone = None

    def check(self) -> None:
        """Raise `StoreGone` if what was opened is not at its path any more; from then on until `close`."""
        self._intact()
        self._check_place()

    def _check_place(self) -> None:
        """`check`, after `_intact` has looked at the descriptors.

        It is the same with its WAL or shared memory: a newcomer would make others, and they would not see
        each other's locks and jobs. Only by path: opening and closing the file would drop SQLite's locks on
        it (https://sqlite.org/howtocorrupt.html, section 2.2).
        """
        if self._identity is not None and self._gone is None:
            try:
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) != self._identity:
                    self._gone = "replaced by another file"
                elif self._lacks_files():
                    self._gone = "deprived of its -wal or -shm file"
            except (FileNotFoundError, NotADirectoryError):
                self._gone = "deleted"
            except OSError as error:
                raise StoreError(f"{self.path} can no longer be reached: {error.strerror}.") from error
        if self._gone is not None:
            raise StoreGone(
                f"{self.path} was {self._gone} while it was in use, and nothing is written to it any more. "
                "Put the file back if there is one, and restart the application."
            )

    def _lacks_files(self) -> bool:
        own = self.own()
        is_open = own.writer is not None or own.reader is not None  # who closes it last deletes them
        return own.perhaps_deleted and is_open and lead_to_deleted_files(own.descriptors, self.path)

    def release_for_fork(self) -> None:
        """Close the connections, when no thread is using them; the next calls open them again."""
        own = self._intact()
        own.write_lock.acquire()
        own.read_lock.acquire()
        if not own.is_mine():
            own.close_writer()
            own.close_reader()
            own.descriptors = {}

    def resume_after_fork(self) -> None:
        """Let the parent's threads go on. The child has an `Own` of its own, whose locks are free."""
        own = self.own()
        own.read_lock.release()
        own.write_lock.release()

    # -- use ----------------------------------------------------------------------------------

    @contextmanager
    def transaction(
        self, since: float | None = None, *, durable: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """One write transaction, committed on leaving; inside another one of the same thread, a part of it.

        `since` is when the caller began to wait for it (`time.monotonic()`). One that need not be `durable`
        is not synced: a loss of power may undo it, but not after the next one that is.
        """
        own = self.own()
        if own.is_mine():
            try:
                yield own.joined()
            except BaseException as error:
                self._undo(own, error)
                raise
            return
        since = time.monotonic() if since is None else since
        self._intact()
        with own.write_lock:
            connection = self._begin(own, since, durable)
            own.holder = threading.get_ident()
            try:
                yield connection
                own.joined().execute(sql.COMMIT)
            except BaseException as error:
                self._undo(own, error)
                raise
            finally:
                own.holder = 0

    def read(self, query: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """The rows of a query: as the open transaction of this thread sees them, else what is committed."""
        own = self.own()
        if own.is_mine():
            with self.transaction() as connection:
                return connection.execute(query, arguments).fetchall()
        self._intact()
        if self._identity is None:
            self.open()
        with own.read_lock:
            self._check_place()
            try:
                if own.reader is not None:
                    return own.reader.execute(query, arguments).fetchall()
                with self._noting(own):
                    own.reader = self._connect()
                    own.reader.execute(sql.QUERY_ONLY)
                    own.reader.execute(sql.TEMPORARY_IN_MEMORY)
                    return own.reader.execute(query, arguments).fetchall()
            except sqlite3.Error as error:
                if code_of(error) in RECONNECT:
                    own.close_reader()
                    self._forget_closed(own)
                raise self._explained(error) from error

    def changed(self) -> bool:
        """Whether another connection than this process's writer has committed since the last call."""
        own = self._intact()
        with own.write_lock:
            self.open()
            assert own.writer is not None
            before, own.version = own.version, _data_version(own.writer)
            return before is None or before != own.version

    def tidy(self) -> None:
        """Cut off a WAL that has grown because somebody was reading, and so it was not begun anew.

        One of the usual size is left: a commit into a file that need not grow is faster.
        """
        try:
            if os.stat(f"{self.path}-wal").st_size <= LARGE_WAL:
                return
        except OSError:
            return
        own = self._intact()
        with own.write_lock:
            self.open()
            assert own.writer is not None
            try:
                own.writer.execute(sql.CUT_WAL).fetchall()
            except sqlite3.Error as error:
                if not is_busy(error):
                    self._undo(own, error)

    # -- inside ---------------------------------------------------------------------------------

    def _intact(self) -> Own:
        """This process's own part, without connections whose descriptors somebody else has closed."""
        own = self.own()
        if own.is_mine():
            return own
        intact, own.perhaps_deleted = look_at(own.descriptors)
        if not intact:
            with own.write_lock, own.read_lock:
                if not look_at(own.descriptors)[0]:  # another thread has not just closed them itself
                    with set_aside(own.descriptors):
                        own.close_writer()
                        own.close_reader()
                    own.descriptors = {}
        return own

    @contextmanager
    def _noting(self, own: Own) -> Iterator[None]:
        """Note the descriptors of the connection that is opened inside.

        Not those of other connections to the file, such as the application's own: it may close them. One
        connection at a time is opened in a process, so that none takes another one's for its own.
        """
        with OPENING.setdefault(own.pid, threading.Lock()):
            before = of_database(self.path)
            try:
                yield
            finally:
                found = {fd: what for fd, what in of_database(self.path).items() if before.get(fd) != what}
                with own.noting:
                    own.descriptors = still_open(own.descriptors) | found

    def _forget_closed(self, own: Own) -> None:
        """A connection was closed, and its descriptors with it."""
        with own.noting:
            own.descriptors = still_open(own.descriptors)

    def _begin(self, own: Own, since: float, durable: bool) -> sqlite3.Connection:
        """Begin a transaction, and wait for that as long as those who have the lock get on with their work.

        Under load a process may lose every race for longer than the busy timeout. No call is to fail
        for that: only for a lock that nobody has given back in all this time.
        """
        self.open()
        connection = own.writer
        assert connection is not None
        synchronous = self._synchronous if durable else sql.SYNCHRONOUS["normal"]
        if own.synchronous != synchronous:  # which cannot be changed inside a transaction
            connection.execute(synchronous)
            own.synchronous = synchronous
        version: int | None = None
        pause = 0.0005
        while True:
            try:
                connection.execute(sql.BEGIN)
                return connection
            except sqlite3.Error as error:
                if not is_busy(error):
                    if code_of(error) in RECONNECT:
                        own.close_writer()
                        self._forget_closed(own)
                    raise self._explained(error) from error
                latest = _data_version(connection)
                if version is not None and latest not in (None, version):
                    since = time.monotonic()
                version = latest or version
                if time.monotonic() - since >= self._busy_timeout:
                    raise self._explained(error) from error
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
            self._check_place()

    def _undo(self, own: Own, error: BaseException) -> None:
        """Roll back, so that nothing half-done is ever committed, and say what an error of SQLite means."""
        if own.writer is not None and own.pid == os.getpid():
            roll_back(own.writer)
        if not isinstance(error, sqlite3.Error) or code_of(error) is None:
            return
        if code_of(error) in RECONNECT:
            own.close_writer()
            self._forget_closed(own)
        raise self._explained(error) from error

    def _open_writer(self) -> sqlite3.Connection:
        refuse_environment(self.path)
        if self._must_exist:
            require_file(self.path)
        else:
            if self._identity is None:
                make_file(self.path)
            require_rights(self.path)
        connection = self._connect()
        try:
            if self._must_exist:
                require_tables(connection, self.path)
            prepare(connection, self.path, self._synchronous, self._busy_timeout)
            connection.execute(sql.NO_BUSY_HANDLER)
            if self._identity is None:
                found = os.stat(self.path)
                self._identity = (found.st_dev, found.st_ino)
            self._check_place()
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._explained(error) from error
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self.path, self._busy_timeout)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> StoreError:
        return explain(error, self.path, self._busy_timeout)


# Opening a connection of its own is not enough for a child: SQLite keeps what it knows of a file's locks
# in one place per process, so an inherited open connection makes it believe that the child has locks
# that it has not (fcntl(2): a child inherits none), and its commits can get lost. So a connection is
# closed before `os.fork()`, which is what https://sqlite.org/howtocorrupt.html, section 2.6, asks for.
# Forks that do not run these hooks are those of servers written in C, such as uWSGI's. There only `Own`
# helps, and that the master, which lives as long as its workers do, has the locks.


_HELD: dict[int, list[SqliteFile]] = {}  # by the thread that forks


def _before_fork() -> None:
    _HELD[threading.get_ident()] = files = list(_FILES)
    for file in files:
        file.release_for_fork()


def _after_fork_in_parent() -> None:
    for file in _HELD.pop(threading.get_ident()):
        file.resume_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)


def _data_version(connection: sqlite3.Connection) -> int | None:
    try:
        return int(connection.execute(sql.DATA_VERSION).fetchone()[0])
    except sqlite3.Error:
        return None
