"""What a process has of a SQLite file by itself, and what it has inherited by a fork and must not use."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from typing import Any

from ..errors import StoreError
from .descriptors import Descriptors


class Own:
    """What must not cross a fork; it is used only in the process that made it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.write_lock = threading.RLock()
        self.writer: sqlite3.Connection | None = None
        self.synchronous = ""  # the writer's setting
        self.holder = 0  # the thread whose transaction is open
        self.version: int | None = None  # the last answer of DATA_VERSION
        self.commit = threading.Condition()
        self.committing = False  # whether a thread writes what is pending
        self.pending: deque[Any] = deque()  # enqueues that wait for a commit
        self.read_lock = threading.Lock()
        self.reader: sqlite3.Connection | None = None
        self.descriptors: Descriptors = {}  # those of the connections
        self.perhaps_deleted = False  # one of their files, by the last look at them
        self.noting = threading.Lock()  # guards them

    def is_mine(self) -> bool:
        """Whether the calling thread has the open transaction."""
        return self.holder == threading.get_ident()

    def joined(self) -> sqlite3.Connection:
        """The connection of the open transaction, if that is still open and this process's."""
        if self.pid != os.getpid():
            raise StoreError("A transaction cannot be used in a process that was forked inside it.")
        if self.writer is None or not self.writer.in_transaction:
            raise StoreError("Nothing of this batch is stored, since an earlier call in it failed.")
        return self.writer

    def close_writer(self) -> None:
        writer, self.writer, self.version, self.synchronous = self.writer, None, None, ""
        if writer is not None:
            writer.close()

    def close_reader(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()


#: What this process inherited by a fork. Kept, because closing it would disturb those whose it is.
INHERITED: list[Own] = []

#: Held while a connection is opened; by pid, as an inherited lock may be held for ever.
OPENING: dict[int, threading.Lock] = {}
