"""Where an app object comes from: the module whose import makes it, or the factory that was called."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

#: Whose frames end the search: what these call from outside is the app's own entry.
_SERVERS = frozenset({
    "_pytest", "asyncio", "bottle", "click", "cherrypy", "daphne", "eventlet", "flask", "gevent", "granian",
    "gunicorn", "hypercorn", "importlib", "mod_wsgi", "paste", "pyramid", "runpy", "starlette", "threading",
    "tornado", "uvicorn", "waitress", "werkzeug",
})  # fmt: skip


def app_origin() -> dict[str, Any] | None:
    """How a worker makes the app that is being set up at this moment; None if that cannot be told.

    Called on the way of an adapter's set-up, it looks outwards along the stack. A module that is being
    executed makes the app by its import. Where a server or the framework called a function instead
    (`gunicorn "shop:create_app()"`), that function is the factory, with the arguments it was given.
    """
    package = __name__.partition(".")[0]
    entry: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        top = name.partition(".")[0]
        if top != package:
            if frame.f_code.co_filename.startswith("<frozen ") or top in _SERVERS:
                break
            if frame.f_code.co_name == "<module>":
                return {"module": name}
            entry = frame
        frame = frame.f_back
    return _factory(entry) if entry is not None else None


def _factory(frame: FrameType) -> dict[str, Any]:
    """The function of this frame, and the arguments that it was called with."""
    code = frame.f_code
    positional = code.co_varnames[: code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    arguments = [frame.f_locals.get(name) for name in positional]
    keywords = {name: frame.f_locals.get(name) for name in named}
    origin = {"module": frame.f_globals["__name__"], "factory": code.co_qualname}
    try:
        return {
            **origin,
            "args": json.loads(json.dumps(arguments)),
            "kwargs": json.loads(json.dumps(keywords)),
        }
    except (TypeError, ValueError):
        return {**origin, "unrepeatable": sorted(name for name in (*positional, *named))}
