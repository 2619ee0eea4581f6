"""The database that a command works on."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..settings import database_path
from ..store.sqlite import SqliteStore


class Database:
    """What all commands work on: the database, which is not made by looking at it, and how to answer."""

    def __init__(self, find: Callable[[], str | os.PathLike[str]], *, as_json: bool) -> None:
        self._find = find
        self._path: str | None = None
        self._store: SqliteStore | None = None
        self.as_json = as_json

    @property
    def path(self) -> str:
        """The absolute path. Raises `ConfigError`."""
        if self._path is None:
            self._path = database_path(self._find(), make=False)
        return self._path

    @property
    def store(self) -> SqliteStore:
        """The opened store. Raises `StoreError` where there is none."""
        self.open()
        assert self._store is not None
        return self._store

    def open(self) -> None:
        """Raise `StoreError` where there is no store, or one that cannot be used."""
        if self._store is None:
            self._store = SqliteStore(self.path, must_exist=True)
        self._store.open()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
