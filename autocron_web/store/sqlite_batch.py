"""`Store.batch` of the SQLite store."""

from __future__ import annotations

import sys
import threading
import weakref
from types import FrameType, TracebackType

from ..framelock import Turn
from . import sqlite_sql as sql
from .sqlite_file import SqliteFile
from .sqlite_own import Own


class _BatchTurn(Turn):
    """The turn of a batch: of its beginning and its end, while these run, and of itself in between."""

    __slots__ = ("batch",)

    def __init__(self, frame: FrameType) -> None:
        super().__init__(frame)
        self.batch: weakref.ref[Batch] | None = None

    def is_over(self) -> bool:
        batch = self.batch
        return super().is_over() if batch is None else batch() is None


class Batch:
    """One write transaction around several calls; inside another batch of the same thread, a part of it."""

    def __init__(self, file: SqliteFile, durable: bool) -> None:
        self.thread = threading.get_ident()
        self._file = file
        self._durable = durable
        self._turn: _BatchTurn | None = None  # None: a part of another one
        self._breaks_in = False

    def __enter__(self) -> None:
        file = self._file
        own = self._own = file.own()
        if own.is_in_batch():
            return
        file.intact()
        turn = _BatchTurn(sys._getframe())
        try:
            file.take(own, own.write_lock, turn)
            self._breaks_in = own.write_lock.holder() is not turn
            if self._breaks_in:
                file.break_in(own)
            file.begin(own, None, self._durable)
            self._turn = turn
            turn.batch = own.batch = weakref.ref(self)
            turn.frame = None  # which has this object among its variables
        except BaseException as error:
            self._turn = turn.batch = None
            self._fail(error)
            turn.end()
            raise

    def __exit__(self, _: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        own, turn = self._own, self._turn
        if turn is None:
            if error is not None:
                self._fail(error)
            return
        try:
            turn.frame, turn.batch = sys._getframe(), None
            if error is not None:
                self._fail(error)
            else:
                self._commit(own)
        finally:
            self._file.roll_back(own)  # where an exception has come between two lines
            own.batch = None
            if self._breaks_in:
                own.retire_writer()
                self._file.change(own, own.close_last)
            turn.end()

    def __del__(self) -> None:
        """An exception has come just before the block, or instead of `__exit__`."""
        if self._turn is not None and not self._turn.is_over():
            self._file.roll_back(self._own)

    def _commit(self, own: Own) -> None:
        try:
            own.joined().execute(sql.COMMIT)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Roll back, and raise what a user is to see of the error if that is another one."""
        seen = self._file.undo(self._own, error)
        if seen is not error:
            raise seen from error
