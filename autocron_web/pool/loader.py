"""Loading the app in a worker: its paths, its main module, its framework's app, its task modules."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from typing import Any

from .. import execution, tasks
from ..engine import engine
from ..process import file_mark
from .mainmodule import Load, is_app

#: Where the execution of the app's code was ended: see `Load.stop`.
_stops: list[list[Any]] = []


class LoadError(Exception):
    """The app cannot be loaded; the message is for its developer."""


def load_app(head: dict[str, Any]) -> None:
    """Make this process like the app's: path, folder, modules, app object. Raises `LoadError`.

    head: as in the hello: `path`, `argv`, `cwd`, `main`, `loader`, `database`, `modules`; and `others`.
    """
    global _main
    sys.path[:] = head["path"]
    sys.argv[:] = head["argv"]  # a main module may read them before it serves
    try:
        os.chdir(head["cwd"])
    except OSError as error:
        raise LoadError(f"the app's folder {head['cwd']} cannot be entered ({error.strerror})") from None
    engine.use(head["database"])
    _main, loader = head["main"], head["loader"]
    if "__main__" in head["modules"] or (loader and loader["module"] == "__main__"):
        _import("__main__")
        if engine.made_in_worker:  # by a call that no guard kept from being executed
            loader = None
    if loader is not None:
        _load_by(loader)
    import_modules(head["modules"], head["others"])


def import_modules(names: list[str], others: list[str]) -> None:
    """Import the modules that registered tasks in the app; the main one is `__main__`. Raises `LoadError`.

    others: those of other code that lives, which may be missing in this one.
    """
    for name in names:
        _import(name)
    for name in others:
        try:
            _import(name)
        except LoadError as error:
            _missing[name] = str(error)
    _asked.update(names, others)


_main: dict[str, str] | None = None  # the app's main module: `file`, and `name` as a module


_asked: set[str] = set()  # modules that this process was to import
_missing: dict[str, str] = {}  # those of other code that it could not import, and why


def known_modules() -> list[str]:
    """The modules that have registered tasks or were to do so, by the names that the app told."""
    names = _asked.union(tasks.defining_modules())
    return sorted(names | {"__main__"} if _main and _main["name"] in names else names)


_seen: set[str] = set()
_read: dict[str, list[int]] = {}  # files of modules, as they were just before these were imported


def note_files() -> None:
    """From now on note each file before it is read: what is written meanwhile has not been read."""
    usual = SourceFileLoader.path_stats

    def path_stats(self: SourceFileLoader, path: str) -> Any:
        mark = file_mark(path)
        if mark is not None:
            _read[path] = mark
        return usual(self, path)

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def has_imported() -> bool:
    """Whether something was imported since the last call of `app_files`."""
    return len(sys.modules) != len(_seen)


def app_files() -> dict[str, list[int]]:
    """The files of the app that were imported since the last call, as they were when they were read.

    Their times are compared with nothing but themselves: another machine's clock may have written them.
    """
    if not has_imported():
        return {}
    files = {}
    for name in _new_modules():
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        if file and is_app(file):
            file = getattr(getattr(module, "__loader__", None), "archive", file)  # a zip file
            mark = _read.get(file) or file_mark(file)
            if mark is not None:
                files[file] = mark
        _seen.add(name)
    _read.clear()
    return files


def _new_modules() -> list[str]:
    """Those at the end, as a rule. A look at all would write on memory that workers have in common."""
    new: list[str] = []
    with suppress(RuntimeError):  # a thread that a task has left is importing
        new += itertools.takewhile(lambda name: name not in _seen, reversed(sys.modules))
    if len(new) + len(_seen) != len(sys.modules):  # some have been removed, or put in again
        new = list(sys.modules.keys() - _seen)
        _seen.intersection_update(sys.modules)
    return new


def _load_by(loader: dict[str, Any]) -> None:
    """Import the module that makes the app object, and call its factory if it has one.

    Where tasks want the state of its lifespan, `asgi` is the app's name in the module, "" for the factory's.
    `context` is the app's name there, and that of its method that makes a context for tasks.
    """
    module = _import(loader["module"])
    if "context" in loader and not execution.surroundings:  # the adapter's line stands under the guard
        app, context = loader["context"]
        if hasattr(module, app):
            execution.surroundings.append(getattr(getattr(module, app), context))
    factory, name = loader.get("factory"), loader.get("asgi")
    if name:
        _run_lifespan(getattr(module, name, None), f"{module.__name__}.{name}")
    if factory is None:
        return
    function: Any = module
    for part in factory.split("."):
        function = getattr(function, part, None)
    if function is None:
        raise LoadError(f"{module.__name__} has no {factory}, which made the app")
    callback = getattr(function, "callback", None)
    if getattr(callback, "__qualname__", None) == factory:  # a command of click, made of that function
        function = callback
    if "unrepeatable" in loader:
        raise LoadError(
            f"{module.__name__}.{factory} was called with arguments that a worker cannot be given"
            f" ({', '.join(loader['unrepeatable'])}): let the server call a function without arguments"
        )
    made: list[Any] = []
    _execute(
        lambda: made.append(function(*loader["args"], **loader["kwargs"])),
        f"{module.__name__}.{factory}() failed",
    )
    if name == "" and made:
        _run_lifespan(made[0], f"{module.__name__}.{factory}()")


def _run_lifespan(app: Any, name: str) -> None:
    from ..web.lifespan import run_in_worker

    _execute(lambda: run_in_worker(app), f"the lifespan of {name} failed")


def _import(name: str) -> types.ModuleType:
    if name == "__main__" and _main is not None:
        return _execute_main(**_main)
    if name not in sys.modules:
        _execute(lambda: importlib.import_module(name), f"{name} cannot be imported")
    return sys.modules[name]


def _execute_main(file: str, name: str) -> types.ModuleType:
    """Execute the main module's file as the module `name`, so that a guard keeps its block from running."""
    if not _is_loaded(file, name):
        _execute(lambda: _execute_file(file, name), f"{file} cannot be executed")
    return sys.modules[name]


def _is_loaded(file: str, name: str) -> bool:
    """Also a module of the standard library may have the name: `calendar`."""
    return getattr(sys.modules.get(name), "__file__", None) == file


def _execute_file(file: str, name: str) -> None:
    """The module is `__main__` too, as in the app: some modules import that, and pickled objects name it."""
    package, _, child = name.rpartition(".")
    parent = importlib.import_module(package) if package else None
    if _is_loaded(file, name):
        return  # by its package
    spec = importlib.util.spec_from_file_location(name, file)
    spec = spec or importlib.util.spec_from_file_location(name, file, loader=_Script(name, file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    if parent is not None:
        setattr(parent, child, module)
    spec.loader.exec_module(module)


class _Script(SourceFileLoader):
    """A program without `.py` in its name, which gets no `__pycache__` beside it."""

    def set_data(self, *arguments: Any, **keywords: Any) -> None:
        pass


def _execute(code: Callable[[], object], failure: str) -> None:
    """Execute code of the app, up to the line that would start to serve. Raises `LoadError`."""
    try:
        with Load() as load:
            code()
    except BaseException as error:
        raise LoadError(f"{failure}\n{_traceback(error)}{_hint(error)}") from None
    if load.stop is not None:
        _stops.append(load.stop)


def executed() -> dict[str, Any]:
    """Where modules were ended, the name of the main one if it was executed, and which could not be."""
    main = sys.modules["__main__"].__name__
    return {"stops": _stops, "main": None if main == "__main__" else main, "missing": _missing}


def _hint(error: BaseException) -> str:
    main = sys.modules["__main__"].__name__
    if not isinstance(error, ImportError) or error.name != main:
        return ""
    return (
        f"\n(A module that {main} imports has imported {main} back, which had not come so far yet:"
        " import it below the names that it needs)"
    )


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
