"""The original autocron, 1.2.2, in its default mode: a thread of the app writes what calls have queued."""

from __future__ import annotations

import importlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from . import WORKERS, Peer


class Original(Peer):
    """A call before `start()` is stored by the caller; after it, by the thread, some time later."""

    durable = "not yet"
    settings = "defaults"

    _tasks: Any

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._database = folder / "original.db"

    def open(self) -> None:
        os.environ["HOME"] = str(self.folder)  # it keeps a database in ~/.autocron while it is imported
        self._tasks = importlib.import_module("peers.original_tasks")
        importlib.import_module("autocron.sqlite_interface").SQLiteInterface().init_database(self._database)

    def start(self) -> None:
        self._tasks.autocron.start(self._database, workers=WORKERS)

    def call(self, index: int) -> None:
        self._tasks.mark(index)

    def left(self) -> int:
        connection = sqlite3.connect(self._database, timeout=30)
        try:
            return int(connection.execute("SELECT count(*) FROM task").fetchone()[0])
        finally:
            connection.close()

    def stop(self) -> None:
        self._tasks.autocron.stop()
