"""What the adapters that are configured by keywords have in common: their name, and their start."""

from __future__ import annotations

import os
from typing import Any

from ..engine import engine
from ..errors import ConfigError
from ..origin import app_name
from ..settings import Settings, default_database


def database_of(words: Settings, origin: dict[str, Any] | None) -> str:
    """The name of the database. Raises `ConfigError` where it has to be given."""
    if engine.in_worker:
        return ""  # the app process knows; here the stack ends at the worker, not at a server
    return words.database or default_database(app_name(origin) or "app", "the keyword 'database'")


def start(words: Settings, origin: dict[str, Any] | None) -> None:
    """Start the pool, or join the running one, if that is wanted and this process serves.

    origin: how a worker makes the app, as `app_origin` tells. Where that cannot be told, workers import the
    modules that have tasks, and the store belongs to an application that is called as it is.
    """
    if not words.autostart:
        return
    database = database_of(words, origin)
    name = app_name(origin) or os.path.splitext(os.path.basename(database))[0]
    engine.start(database, **words.pool, app_id=name, loader=origin)


def refuse_a_second(app: Any, kind: type) -> None:
    """Raise `ConfigError` if the app, or what it wraps, is such a middleware."""
    for _ in range(100):  # an app may answer for any attribute with another object
        if isinstance(app, kind):
            raise ConfigError(f"autocron-web is set up for this app already: wrap it in {kind.__name__} once")
        app = getattr(app, "app", None)
