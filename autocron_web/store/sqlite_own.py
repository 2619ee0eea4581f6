"""What a process has of a SQLite file by itself, and what it has inherited by a fork and must not use."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..framelock import LOOK, ForkTurn, FrameLock, Turn
from .descriptors import Descriptors

if TYPE_CHECKING:
    from .sqlite_batch import Batch
    from .sqlite_enqueue import Call


class Own:
    """What must not cross a fork; it is used only in the process that made it.

    An exception may interrupt its use at any moment. What is left then is seen by whoever comes next: the
    locks are free when their holders have ended, an open transaction is rolled back, and connections of which
    it is not known whose descriptors they have are closed.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.write_lock = FrameLock()
        self.writer: sqlite3.Connection | None = None
        self.retired: list[sqlite3.Connection] = []  # those that have written, and are to be closed
        self.synchronous = ""  # the writer's setting
        self.version: int | None = None  # the last answer of DATA_VERSION
        self.broken_into = 0  # how often a call has rolled back the transaction that it was made inside of
        self.batch: weakref.ref[Batch] | None = None  # the one that is open
        self.pending: dict[Call, None] = {}  # enqueues that wait for a commit, in their order
        self.read_lock = FrameLock()
        self.reader: sqlite3.Connection | None = None
        self.descriptors: Descriptors = {}  # those of the connections
        self.unsure = False  # of them: connections are being opened or closed, or that was interrupted
        self.perhaps_deleted = False  # one of their files, by the last look at them

    def is_in_batch(self) -> bool:
        """Whether the calling thread has a batch open."""
        batch = None if self.batch is None else self.batch()
        return batch is not None and batch.thread == threading.get_ident()

    def is_inside(self) -> bool:
        """Whether the calling thread is in a call already: it is in a signal handler or a `__del__`."""
        return self.write_lock.is_mine() or self.read_lock.is_mine() or opening(self).is_mine()

    def joined(self) -> sqlite3.Connection:
        """The connection of the open batch, if its transaction is still open and this process's."""
        if self.pid != os.getpid():
            raise StoreError("A transaction cannot be used in a process that was forked inside it.")
        if self.writer is None or not self.writer.in_transaction:
            raise StoreError("Nothing of this batch is stored, since an earlier call in it failed.")
        return self.writer

    def take_both(self, frame: FrameType, turn: type[Turn] | type[ForkTurn] = Turn) -> tuple[Turn, Turn]:
        """Both locks, for a function that runs; `end()` of both turns gives them back.

        Never waits for one with the other one in hand: the thread that reads may be in a signal handler,
        which waits to write.
        """
        while True:
            write, read = turn(frame), turn(frame)
            self.write_lock.take(write)
            if self.read_lock.take(read, _after(LOOK)):
                return write, read
            write.end()
            read.end()

    def retire_writer(self) -> sqlite3.Connection | None:
        """Write no more with this connection, which is to be closed later."""
        writer, self.version, self.synchronous = self.writer, None, ""
        if writer is not None:
            self.retired.append(writer)
            self.writer = None
        return writer

    def close_writer(self) -> None:
        self.retire_writer()
        while self.retired:
            self.close_last()

    def close_last(self) -> None:
        """Close the connection that was retired last, if there is one."""
        if self.retired:
            self.retired[-1].close()
            self.retired.pop()

    def close_reader(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()


def _after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed from now on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


#: What this process inherited by a fork. Kept, because closing it would disturb those whose it is.
INHERITED: list[Own] = []

#: Held while connections are opened or closed; by pid, as an inherited lock may be held for ever.
_OPENING: dict[int, FrameLock] = {}


def opening(own: Own) -> FrameLock:
    """The lock of all that opens or closes connections in this process."""
    return _OPENING.get(own.pid) or _OPENING.setdefault(own.pid, FrameLock())
