"""Transactions on one SQLite file, as one process has them."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import StoreBusy
from ..framelock import FrameLock, Turn
from . import sqlite_sql as sql
from .sqlite_connections import Connections
from .sqlite_errors import RECONNECT, code_of, is_busy
from .sqlite_open import roll_back
from .sqlite_own import Own

T = TypeVar("T")

LARGE_WAL = 8 << 20  # bytes: twice what it has when SQLite begins it anew, a thousand pages


class SqliteFile(Connections):
    """Transactions on a file, one at a time in a process, and reads beside them.

    Errors of SQLite come out as `StoreError`.
    """

    # -- use ----------------------------------------------------------------------------------

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        since: float | None = None,
        durable: bool = True,
        then: Callable[[T], object] | None = None,
        unless: Callable[[], T | None] | None = None,
    ) -> T:
        """One write transaction, committed when this returns; in a batch of this thread, a part of it.

        `work` may be called again, after a roll-back. `since` is when the caller began to wait for it
        (`time.monotonic()`). One that need not be `durable` is not synced: a loss of power may undo it, but
        not after the next one that is. `then` is called with the answer before another thread has its turn.
        When `unless` has an answer before this one has, nothing is written.
        """
        own = self.own()
        if own.is_in_batch():
            return self._join(own, work)
        self.intact()
        turn = Turn(sys._getframe())
        try:
            if not self.take(own, own.write_lock, turn, unless):
                assert unless is not None
                answer = unless()
                assert answer is not None
                return answer
            if own.write_lock.holder() is turn:
                answer = self._transact(own, work, since, durable)
                if own.retired:
                    self.change(own, own.close_writer)
            else:
                answer = self._transact_inside(own, work, durable)
            if then is not None:
                then(answer)
            return answer
        finally:
            turn.end()

    def read(self, query: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """The rows of a query, as `look` sees them."""
        return self.look(lambda connection: connection.execute(query, arguments).fetchall())

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read as the open batch of this thread sees it, else what is committed."""
        own = self.own()
        if own.is_in_batch():
            return self._join(own, work)
        self.intact()
        if self._identity is None:
            self.open()
        turn = Turn(sys._getframe())
        try:
            self.take(own, own.read_lock, turn)
            self.check_place()
            if own.read_lock.holder() is turn:
                return self._ask(own, work)
            # In a signal handler: the read that it has interrupted sees what was committed before that, and
            # so would this one on its connection.
            return self._look_inside(own, work)
        except sqlite3.Error as error:
            raise self._failed(own, error, own.close_reader) from error
        finally:
            turn.end()

    def _ask(self, own: Own, work: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            while (reader := own.reader) is None:
                self.change(own, lambda: self.open_reader(own))
            try:
                return work(reader)
            except sqlite3.ProgrammingError:
                if own.reader is reader:
                    raise
                # a signal handler that forks has closed it

    def _look_inside(self, own: Own, work: Callable[[sqlite3.Connection], T]) -> T:
        before, own.reader = own.reader, None
        try:
            return self._ask(own, work)
        finally:  # no connection is left open: this thread may be about to fork
            self.change(own, own.close_reader)
            own.reader = before

    def changed(self) -> bool:
        """Whether another connection than this process's writer has committed since the last call."""
        own = self.intact()
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
        own = self.intact()
        with own.write_lock:
            self.open()
            assert own.writer is not None
            try:
                own.writer.execute(sql.CUT_WAL).fetchall()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise self._failed(own, error, own.close_writer) from error

    # -- transactions ---------------------------------------------------------------------------

    def begin(self, own: Own, since: float | None, durable: bool) -> sqlite3.Connection:
        """Begin a transaction, and wait for that as long as those who have the lock get on with their work.

        Under load a process may lose every race for longer than the busy timeout. No call is to fail
        for that: only for a lock that nobody has given back in all this time.
        """
        since = time.monotonic() if since is None else since
        self.open()
        while (connection := own.writer) is None:  # a signal handler has closed it
            self.open()
        if connection.in_transaction:  # of somebody who was interrupted
            roll_back(connection)
        synchronous = self.synchronous if durable else sql.SYNCHRONOUS["normal"]
        if own.synchronous != synchronous:  # which cannot be changed inside a transaction
            own.synchronous = ""
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
                    raise
                latest = _data_version(connection)
                if version is not None and latest not in (None, version):
                    since = time.monotonic()
                version = latest or version
                if time.monotonic() - since >= self.busy_timeout:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
            self.check_place()

    def undo(self, own: Own, error: BaseException) -> BaseException:
        """Roll back, so that nothing half-done is ever committed. The error as a user is to see it."""
        self.roll_back(own)
        return self._failed(own, error, own.close_writer) if isinstance(error, sqlite3.Error) else error

    def roll_back(self, own: Own) -> None:
        """Roll back what is open, if anything is."""
        try:
            _end_transaction(own)
        finally:
            _end_transaction(own)  # a second exception has interrupted the first try

    def break_in(self, own: Own) -> None:
        """Make way for a transaction inside a call of this very thread, by a signal handler or `__del__`.

        It is to be on disk when it returns, and must not commit half of the other one, for whose end it
        cannot wait. So that one is rolled back, and begins anew when it goes on and finds that its connection
        writes no more. It is not closed: a `__del__` may run while the module `sqlite3` is using it.
        """
        own.broken_into += 1
        writer = own.retire_writer()
        if writer is not None:
            roll_back(writer)
            writer.execute(sql.QUERY_ONLY)

    def take(self, own: Own, lock: FrameLock, turn: Turn, unless: Callable[[], object] | None = None) -> bool:
        """Take a lock of this process, as `FrameLock.take`.

        In a signal handler this thread may have one already, for which the holder of that one is waiting. So
        it waits no longer there than for a lock of somebody else: `StoreBusy`.
        """
        since = time.monotonic()

        def answered() -> bool:
            if unless is not None and unless() is not None:
                return True
            if time.monotonic() - since >= self.busy_timeout and own.is_inside():
                raise StoreBusy(
                    f"{self.path} is in use by a call that this one has interrupted (in a signal handler or "
                    "a `__del__`), and nothing was stored. Try again when that handler has returned."
                )
            return False

        return lock.take(turn, answered)

    def _transact(
        self, own: Own, work: Callable[[sqlite3.Connection], T], since: float | None, durable: bool
    ) -> T:
        while True:
            broken_into = own.broken_into
            try:
                connection = self.begin(own, since, durable)
                answer = work(connection)
                connection.execute(sql.COMMIT)
                return answer
            except BaseException as error:
                if own.broken_into != broken_into and isinstance(error, sqlite3.Error):
                    continue
                seen = self.undo(own, error)
                if seen is error:
                    raise
                raise seen from error

    def _transact_inside(self, own: Own, work: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        """A transaction after `break_in`. It leaves no connection open: this thread may be about to fork."""
        self.break_in(own)
        try:
            return self._transact(own, work, None, durable)
        finally:
            own.retire_writer()
            self.change(own, own.close_last)

    def _join(self, own: Own, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it as a part of this thread's batch, of which nothing is to be stored if this fails."""
        try:
            return work(own.joined())
        except BaseException as error:
            seen = self.undo(own, error)
            if seen is error:
                raise
            raise seen from error

    def _failed(self, own: Own, error: sqlite3.Error, close: Callable[[], None]) -> BaseException:
        """An error of SQLite as one of ours; one of its Python module, such as a wrong type, as it is."""
        code = code_of(error)
        if code is None:
            return error
        if code in RECONNECT:
            self.change(own, close)
        return self.explained(error)


def _end_transaction(own: Own) -> None:
    writer = own.writer
    if writer is None or own.pid != os.getpid() or not writer.in_transaction:
        return
    try:
        writer.execute(sql.ROLLBACK)
    except BaseException:
        own.unsure = True
        own.close_writer()  # which rolls back, too
        raise


def _data_version(connection: sqlite3.Connection) -> int | None:
    try:
        return int(connection.execute(sql.DATA_VERSION).fetchone()[0])
    except sqlite3.Error:
        return None
