"""Where an app object comes from: the module whose import makes it, or the factory that was called."""

from __future__ import annotations

import json
import os
import sys
from types import FrameType
from typing import Any

from .settings import importable, main_module, main_name

#: Which may stand between the app's code and the adapter that it installs: `app.install(AutocronPlugin())`.
_FRAMEWORKS = frozenset({
    "bottle", "django", "falcon", "fastapi", "flask", "litestar", "pyramid", "quart", "starlette", "tornado",
    "zope",  # by which Pyramid tells that an app was made
})  # fmt: skip

#: Whose frames end the search: what these call from outside is the app's own entry.
_SERVERS = _FRAMEWORKS | {
    "_pytest", "asyncio", "click", "cherrypy", "daphne", "eventlet", "gevent", "granian", "gunicorn",
    "hypercorn", "importlib", "mod_wsgi", "paste", "runpy", "threading", "uvicorn", "waitress", "werkzeug",
}  # fmt: skip


_VARARGS, _VARKEYWORDS, _COROUTINE = 4, 8, 128  # inspect.CO_VARARGS, CO_VARKEYWORDS, CO_COROUTINE


def app_origin() -> dict[str, Any] | None:
    """How a worker makes the app that is being set up at this moment; None if that cannot be told.

    Called on the way of an adapter's set-up, it looks outwards along the stack. A module that is being
    executed makes the app by its import. Where a server or the framework called a function instead
    (`gunicorn "shop:create_app()"`), or the main module did, that function is the factory, with the
    arguments it was given. No worker can call a coroutine function for that: then only the module is told,
    if it is the main one.
    """
    package = __name__.partition(".")[0]
    entry: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        top = name.partition(".")[0]
        if top != package and (entry is not None or top not in _FRAMEWORKS):
            if frame.f_code.co_filename.startswith("<frozen ") or top in _SERVERS:
                break
            if frame.f_code.co_name == "<module>":
                if importable(name) == "__main__" and entry is not None:
                    break  # the call may stand under `if __name__ == "__main__"`, which no worker executes
                return {"module": importable(name)}
            entry = frame
        frame = frame.f_back
    if entry is None:
        return None
    if entry.f_code.co_flags & _COROUTINE:  # `asyncio.run(main())`, or a server that calls a middleware
        main = importable(entry.f_globals["__name__"]) == "__main__"
        return {"module": "__main__"} if main else None
    return _factory(entry)


def variable_of(origin: dict[str, Any] | None, app: object) -> str | None:
    """The name that the module of an app's origin has for the app; None if a function makes it there."""
    if origin is None or "factory" in origin:
        return None
    module = main_module() if origin["module"] == "__main__" else sys.modules.get(origin["module"])
    names = vars(module) if module else {}
    return next((name for name, value in names.items() if value is app), None)


def calling_module() -> str:
    """The import name of the module that called, outside of this package."""
    frame = sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    name = importable(frame.f_globals.get("__name__", "__main__"))
    return (main_name() or "interactive") if name == "__main__" else name


def app_name(origin: dict[str, Any] | None) -> str | None:
    """The name of the app that comes from there: that of its module, or of the package which that is in."""
    if origin is None:
        return None
    module = main_name() if origin["module"] == "__main__" else origin["module"]
    return module.partition(".")[0] if module else None


def _factory(frame: FrameType) -> dict[str, Any]:
    """The function of this frame, and the arguments that it was called with."""
    code, given = frame.f_code, frame.f_locals
    names = list(code.co_varnames)
    positional, names = names[: code.co_argcount], names[code.co_argcount :]
    named, names = names[: code.co_kwonlyargcount], names[code.co_kwonlyargcount :]
    args = [given.get(name) for name in positional]
    kwargs = {name: given.get(name) for name in named}
    if code.co_flags & _VARARGS:
        args += given[names.pop(0)]
    if code.co_flags & _VARKEYWORDS:
        kwargs.update(given[names.pop(0)])
    origin = {"module": importable(frame.f_globals["__name__"]), "factory": code.co_qualname}
    labels = [*positional, *map(str, range(len(positional) + 1, len(args) + 1)), *kwargs]
    unrepeatable = [
        label for label, value in zip(labels, [*args, *kwargs.values()], strict=True) if not _is_json(value)
    ]
    if unrepeatable:
        return {**origin, "unrepeatable": unrepeatable}
    return {**origin, "args": args, "kwargs": kwargs}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def django_loader() -> dict[str, Any] | None:
    """How a worker loads the Django project of this process; None if it has none, or none that is ready.

    Then it is also `start()` itself, called in an app's `ready()` or in `wsgi.py`, that finds it.
    """
    apps = sys.modules.get("django.apps")
    if apps is None or not apps.apps.models_ready or "DJANGO_SETTINGS_MODULE" not in os.environ:
        return None
    return {"module": "autocron_web.django.loading", "factory": "load", "args": [], "kwargs": {}}
