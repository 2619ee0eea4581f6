"""The connections of one process to a SQLite file: opened, closed, and known by their descriptors."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from types import FrameType

from ..errors import StoreError, StoreGone
from ..framelock import ForkTurn, Turn
from . import sqlite_sql as sql
from .descriptors import lead_to_deleted_files, look_at, of_database, set_aside, still_open
from .sqlite_errors import explain
from .sqlite_fork import FILES
from .sqlite_open import (
    connect,
    make_file,
    prepare,
    refuse_environment,
    require_file,
    require_rights,
    require_tables,
)
from .sqlite_own import INHERITED, Own, opening


class Connections:
    """One connection that writes and one that reads, each opened at its first use.

    Every method may be called from any thread, and in a signal handler. An exception may interrupt any of
    them at any moment: see `Own`.
    """

    def __init__(self, path: str, durability: str, busy_timeout: float, must_exist: bool) -> None:
        self.path = path
        self._must_exist = must_exist
        self.synchronous = sql.SYNCHRONOUS[durability]
        self.busy_timeout = busy_timeout
        self._owned: dict[int, Own] = {}  # by pid
        self._identity: tuple[int, int] | None = None  # device and inode of the file that was opened
        self._gone: str | None = None
        FILES.add(self)

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
            self.check_place()
            if own.writer is None:
                self.change(own, lambda: self._open_writer(own))

    def close(self) -> None:
        """Close this process's connections, and forget which file it was."""
        own = self.intact()
        write, read = own.take_both(sys._getframe())
        try:
            self._close_both(own)
            self._identity = self._gone = None
        finally:
            write.end()
            read.end()

    def check(self) -> None:
        """Raise `StoreGone` if what was opened is not at its path any more; from then on until `close`."""
        self.intact()
        self.check_place()

    def check_place(self) -> None:
        """`check`, after `intact` has looked at the descriptors.

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

    def hold_for_fork(self, frame: FrameType) -> tuple[Turn, Turn]:
        """Close the connections, when no thread is using them; the next calls open them again.

        Until the `end()` of both turns, or until the function that forks goes on, no other thread does so.
        """
        own = self.intact()
        turns = own.take_both(frame, ForkTurn)
        if not own.is_in_batch():
            self._close_both(own)
        return turns

    # -- inside ---------------------------------------------------------------------------------

    def intact(self) -> Own:
        """This process's own part, without connections whose descriptors somebody else has closed."""
        own = self.own()
        if own.is_in_batch():
            return own
        intact, own.perhaps_deleted = look_at(own.descriptors)
        if not intact or own.unsure:
            self._begin_anew(own)
        return own

    def _begin_anew(self, own: Own) -> None:
        """Close the connections, unless the thread that was opening or closing them has finished that."""
        if opening(own).is_mine():  # by a call that this one has interrupted, and which goes on
            return
        write, read = own.take_both(sys._getframe())
        try:
            if own.unsure:  # that was interrupted: others may have their files at these numbers by now
                own.close_writer()
                own.close_reader()
            elif not look_at(own.descriptors)[0]:
                with set_aside(own.descriptors):
                    own.close_writer()
                    own.close_reader()
            else:
                return
            own.descriptors = {}
            own.unsure = False
        finally:
            write.end()
            read.end()

    def change(self, own: Own, step: Callable[[], None]) -> None:
        """Open or close a connection, and note its descriptors.

        Not those of other connections to the file, such as the application's own: it may close them. One
        step at a time is taken in a process, so that none takes another one's for its own.
        """
        with opening(own):
            own.unsure = True
            before = of_database(self.path)
            try:
                step()
            finally:
                found = {fd: what for fd, what in of_database(self.path).items() if before.get(fd) != what}
                own.descriptors = still_open(own.descriptors) | found
                own.unsure = False

    def _close_both(self, own: Own) -> None:
        own.broken_into += 1  # this may be a signal handler that forks
        if own.writer is not None or own.retired or own.reader is not None:
            self.change(own, own.close_writer)
            self.change(own, own.close_reader)
        own.descriptors = {}

    def _open_writer(self, own: Own) -> None:
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
            prepare(connection, self.path, self.synchronous, self.busy_timeout)
            connection.execute(sql.NO_BUSY_HANDLER)
            if self._identity is None:
                found = os.stat(self.path)
                self._identity = (found.st_dev, found.st_ino)
            self.check_place()
            own.writer = connection
        except BaseException as error:
            own.writer = None
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise self.explained(error) from error
            raise

    def open_reader(self, own: Own) -> None:
        connection = self._connect()
        try:
            connection.execute(sql.QUERY_ONLY)
            connection.execute(sql.TEMPORARY_IN_MEMORY)
            own.reader = connection
        except BaseException:
            own.reader = None
            connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self.path, self.busy_timeout)
        except sqlite3.Error as error:
            raise self.explained(error) from error

    def explained(self, error: sqlite3.Error) -> StoreError:
        return explain(error, self.path, self.busy_timeout)
