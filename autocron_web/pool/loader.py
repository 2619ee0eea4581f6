"""Loading the app in a worker: its paths, its main module, its framework's app, its task modules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..engine import engine
from ..process import PACKAGE_ROOT, file_mark


class LoadError(Exception):
    """The app cannot be loaded; the message is for its developer."""


class _ServerStarts(BaseException):
    """The main module has come to the line that starts to serve, or waits: all above it is loaded."""


def load_app(head: dict[str, Any]) -> None:
    """Make this process like the app's: path, folder, modules, app object. Raises `LoadError`.

    head: as in the hello: `path`, `argv`, `cwd`, `main`, `loader`, `modules`.
    """
    sys.path[:] = head["path"]
    sys.argv[:] = head["argv"]  # a main module may read them before it serves
    try:
        os.chdir(head["cwd"])
    except OSError as error:
        raise LoadError(f"the app's folder {head['cwd']} cannot be entered ({error.strerror})") from None
    main, loader = head["main"], head["loader"]
    if main is not None:
        _execute_main(main["file"], main["name"])
    made = main is not None and engine.made_in_worker  # by a call that no guard kept from being executed
    if loader is not None and not made:
        name = main["name"] if loader["module"] == "__main__" and main else loader["module"]
        _load_by(name, loader)
    import_modules(head["modules"])


def import_modules(names: list[str]) -> None:
    """Import the modules that registered tasks in the app. Raises `LoadError`."""
    for name in names:
        _import(name)


_seen: set[str] = set()
_BORN = time.time_ns()


def app_files() -> dict[str, list[int]]:
    """The files of the app that were imported since the last call, as they are now.

    One that was written after this process began may have been so before or after its import: it is
    said to be empty, so that it counts as changed.
    """
    if len(sys.modules) == len(_seen):
        return {}
    files = {}
    prefixes = tuple({sys.prefix, sys.base_prefix, PACKAGE_ROOT + "/autocron_web"})
    for name in sys.modules.keys() - _seen:
        file = getattr(sys.modules[name], "__file__", None)
        if file and not file.startswith(prefixes):
            mark = file_mark(file) or [0, 0]
            files[file] = mark if mark[0] < _BORN else [0, 0]
    _seen.update(sys.modules)
    return files


def _load_by(module_name: str, loader: dict[str, Any]) -> None:
    """Import the module that makes the app object, and call its factory if it has one."""
    module = _import(module_name)
    factory = loader.get("factory")
    if factory is None:
        return
    function: Any = module
    for part in factory.split("."):
        function = getattr(function, part, None)
    if function is None:
        raise LoadError(f"{module_name} has no {factory}, which made the app")
    if "unrepeatable" in loader:
        raise LoadError(
            f"{module_name}.{factory} was called with arguments that a worker cannot be given"
            f" ({', '.join(loader['unrepeatable'])}): let the server call a function without arguments"
        )
    try:
        with _up_to_serving():
            function(*loader["args"], **loader["kwargs"])
    except BaseException as error:
        raise LoadError(f"{module_name}.{factory}() failed\n{_traceback(error)}") from None


def _import(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        raise LoadError(f"{name} cannot be imported\n{_traceback(error)}") from None


def _execute_main(file: str, name: str) -> None:
    """Execute the main module's file under its importable name, up to the line that would start to serve.

    Under that name a guard `if __name__ == "__main__"` keeps its block from running. Without one, the
    audit event of a TCP socket that is bound to a port says that serving begins.
    """
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise LoadError(f"the main module {file} cannot be loaded: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _up_to_serving():
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise LoadError(f"{file} cannot be executed\n{_traceback(error)}") from None


@contextmanager
def _up_to_serving() -> Iterator[None]:
    """Code of the app that ends at the line that would start to serve."""
    global _main
    watch = _main = _BindWatch()
    try:
        yield
    except BaseException:
        # A recorded flag decides, not what came out: servers catch and replace what passes them.
        if not watch.reached:
            raise
    finally:
        watch.armed, _main = False, None


def end_of_load(reason: str) -> NoReturn:
    """A line of the app cannot be executed here. The main module ends above it, any other one has failed."""
    if _main is None:
        raise LoadError(reason)
    _main.reached = True
    raise _ServerStarts


class _BindWatch:
    """Ends the main module at the first bind of a TCP or UDP port (audit hooks cannot be removed)."""

    def __init__(self) -> None:
        self.armed = True
        self.reached = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind" and self.armed:
            address = arguments[1]
            if isinstance(address, tuple) and len(address) > 1 and address[1] != 0:
                self.reached = True
                raise _ServerStarts


_main: _BindWatch | None = None  # while code is executed that may come to serving


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
