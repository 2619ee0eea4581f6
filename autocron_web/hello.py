"""How a worker is to load the app: a part of what an app process tells the monitor first, its hello."""

from __future__ import annotations

import os
import sys
from typing import Any

from .process import interpreter, interpreter_options, worker_environment
from .settings import main_module, main_name
from .tasks import defining_modules


def way_of_loading(database: str | None, loader: dict[str, Any] | None) -> dict[str, Any]:
    """All that a worker needs to load the app as this process did.

    loader: how to make the app object, where an adapter knows.
    """
    folder = _folder()
    return {
        "python": interpreter(),
        "options": interpreter_options(),
        "env": worker_environment(os.environ),
        # What is no text, Python passes over too.
        "path": list(filter(None, (_absolute(each, folder) for each in sys.path if isinstance(each, str)))),
        "argv": [str(word) for word in getattr(sys, "argv", [])],
        "cwd": folder or os.sep,
        "main": _main_module(folder),
        "loader": loader,
        "database": database,
        "modules": defining_modules(),
    }


def _folder() -> str | None:
    """The current folder; None where it has been deleted, or is in a closed one."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _absolute(path: str, folder: str | None) -> str | None:
    """The path seen from the root; None where it is relative to a folder that is gone: nothing is there."""
    if os.path.isabs(path):
        return os.path.normpath(path)
    return None if folder is None else os.path.normpath(os.path.join(folder, path))


def _main_module(folder: str | None) -> dict[str, str] | None:
    """The file of the main module and the name under which a worker executes it."""
    file, name = getattr(main_module(), "__file__", None), main_name()
    path = _absolute(str(file), folder) if file and name else None
    return {"file": path, "name": name} if path and name else None
