"""Huey's side: the instance that both the app and the consumer import, and its one task."""

from __future__ import annotations

import importlib
import os
from typing import Any

import stamps

#: "" leaves `fsync` at Huey's default, which leaves `synchronous` at SQLite's.
_fsync = {"": None, "yes": True, "no": False}[os.environ["BENCH_HUEY_FSYNC"]]

huey: Any = importlib.import_module("huey").SqliteHuey(filename=os.environ["BENCH_HUEY_FILE"], fsync=_fsync)


@huey.task()  # type: ignore[untyped-decorator]  # Huey has no types
def mark(index: int) -> None:
    stamps.note(index)
