"""autocron-web as it comes: SQLite with `synchronous=FULL`, two workers."""

from __future__ import annotations

import importlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from . import WORKERS, Peer


class AutocronWeb(Peer):
    """Before `start` the pool is switched off, so that calls are stored and nothing runs."""

    settings = "defaults"

    _tasks: Any

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._database = folder / "web.db"

    def open(self) -> None:
        os.environ["AUTOCRON_MODE"] = "off"
        self._tasks = importlib.import_module("peers.web_tasks")
        self._tasks.autocron.start(self._database, strict=True)

    def start(self) -> None:
        os.environ["AUTOCRON_MODE"] = "pool"
        self._tasks.autocron.start(self._database, workers=WORKERS, strict=True)

    def call(self, index: int) -> None:
        self._tasks.mark(index)

    def left(self) -> int:
        connection = sqlite3.connect(self._database, timeout=30)
        try:
            select = "SELECT count(*) FROM autocron_job WHERE state IN ('waiting', 'running')"
            return int(connection.execute(select).fetchone()[0])
        finally:
            connection.close()

    def stop(self) -> None:
        self._tasks.autocron.stop(timeout=10)
