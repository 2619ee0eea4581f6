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
    return {
        "python": interpreter(),
        "options": interpreter_options(),
        "env": worker_environment(os.environ),
        "path": [os.path.abspath(entry) for entry in sys.path],
        "argv": list(sys.argv),
        "cwd": _folder(),
        "main": _main_module(),
        "loader": loader,
        "database": database,
        "modules": defining_modules(),
    }


def _folder() -> str:
    """The current folder, or the root where it has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.sep


def _main_module() -> dict[str, str] | None:
    """The file of the main module and the name under which a worker executes it."""
    file = getattr(main_module(), "__file__", None)
    name = main_name()
    return {"file": os.path.abspath(file), "name": name} if file and name else None
