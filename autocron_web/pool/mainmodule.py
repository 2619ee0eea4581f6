"""Executing the app's modules up to the line that would start to serve, with or without a guard.

A worker needs the tasks above that line, and must never become a second server. So whatever announces a
server ends the execution there, by an exception that cannot be swallowed: once it was raised, no line
of the app's own code runs, no `except` or `finally` either, because what stands there belongs to the
end of the server. docs/main-module.md says what this means for users.

What announces a server: audit events (`_audit`), calls of `ENTRIES`, and a module that only waits (`_tick`).
"""

from __future__ import annotations

import functools
import linecache
import os
import signal
import socket
import stat
import sys
import time
import types
from _thread import get_native_id  # that of threading may be gevent's or eventlet's later on
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from ..process import PACKAGE_ROOT

IDLE = 2.0  # seconds after which a module that waits counts as one that waits for ever, if nothing is below
DEADLINE = 60.0  # seconds after which any module does
TICK = 0.5  # seconds between looks at what the module is doing
BUSY = 0.05  # the part of its time that a module computes, if it does not wait

#: Where serving begins, in modules that do something before they bind their socket (startup hooks, a start of
#: threads or processes, the removal of a Unix socket's file, a banner in the terminal), or that bind it where
#: Python cannot see it.
ENTRIES = {
    "aiohttp.web": ("run_app",),
    "aiohttp.web_runner": ("BaseRunner.setup",),
    "bottle": ("run",),
    "cherrypy": ("quickstart",),
    "cherrypy.process.wspbus": ("Bus.start",),
    "flask.app": ("Flask.run",),
    "granian.server.common": ("AbstractServer.serve",),
    "granian.server.embed": ("Server.serve",),
    "gunicorn.app.base": ("BaseApplication.run",),
    "hypercorn.asyncio": ("serve",),
    "hypercorn.trio": ("serve",),
    "multiprocessing.process": ("BaseProcess.start",),
    "quart.app": ("Quart.run",),
    "sanic.mixins.startup": ("StartupMixin.run", "StartupMixin.serve", "StartupMixin.serve_single"),
    "signal": ("pause", "sigwait", "sigwaitinfo"),  # they wait for the end; the first wakes at each `_tick`
    "uvicorn.main": ("run",),
    "uvicorn.server": ("Server.run", "Server.serve"),
    "waitress": ("serve", "create_server"),
}


class ServerStarts(BaseException):
    """The module has come to the line that would start to serve: all that a worker needs is executed."""


class Load:
    """One execution of code of the app: a module's, or a factory's.

    with Load() as load:
        importlib.import_module("application")
    load.stop  # where it was ended: [module, file, line, source of that line]; None if it came to its end

    In the main thread only. Whatever comes out is swallowed if the execution was ended here: a recorded
    fact decides, not the exception, for which servers have often put another one.
    """

    def __init__(self) -> None:
        self.stop: list[Any] | None = None
        self.thread = get_native_id()
        self.others = _threads() - {self.thread}  # they were here before
        self._modules: list[types.ModuleType] = []  # whose execution was ended

    def __enter__(self) -> Load:
        global _load
        _install()
        self._outside = sys._getframe(1)
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._watchers = sys.gettrace(), sys.getprofile()
        self._began = self._woke = time.monotonic()
        self._used = time.process_time()
        _load = self
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        global _load
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.setprofile(self._watchers[1])  # first, as it would switch on the other again
        sys.settrace(self._watchers[0])
        _born.update(_threads() - self.others - {self.thread})  # first: each may come to its server meanwhile
        _load = None
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        for module in self._modules:
            _keep(module)
        return self.stop is not None

    def end(self) -> None:
        """End the execution: the exception for it is raised from here, and again in each further line."""
        frames = self._frames()
        if self.stop is None:
            self.stop = _place(frames[-1]) if frames else ["", "", 0, ""]
            named = [frame.f_globals["__name__"] for frame in frames if frame.f_code.co_name == "<module>"]
            self._modules = [sys.modules[name] for name in named if name in sys.modules]
        sys.settrace(_again)
        sys.setprofile(_rearm)
        for frame in frames:
            frame.f_trace = _again
        raise ServerStarts

    def _frames(self) -> list[types.FrameType]:
        """The app's own code that is being executed, innermost first."""
        frames = []
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._outside:
            if is_app(frame.f_code.co_filename):
                frames.append(frame)
            frame = frame.f_back
        return frames

    def _tick(self, number: int, frame: Any) -> None:
        """The last resort: the module waits in a loop, or swallows what would have ended it."""
        now, used = time.monotonic(), time.process_time()
        if used - self._used > BUSY * TICK:
            self._woke = now
        self._used = used
        idle = now - self._woke > IDLE and not any(map(_has_more, self._frames()))
        if self.stop is not None or idle or now - self._began > DEADLINE:
            self.end()


_load: Load | None = None  # what is being executed at this moment
_born: set[int] = set()  # threads that were started by it: their servers must not start later either


def is_loading() -> bool:
    """Whether the caller is code that is being loaded: in its thread, or in one that was started by it."""
    load = _load  # read once: another thread may be at the end of it
    return load is not None and get_native_id() not in load.others


def reached() -> None:
    """Serving would begin here: ends the execution, or the thread that was started by it."""
    load = _load
    if load is not None and get_native_id() == load.thread:
        load.end()
    if is_loading() or get_native_id() in _born:
        raise SystemExit  # which ends a thread without a word


# -- audit events (https://docs.python.org/3/library/audit_events.html) ---------------------------------


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    check = _AUDITED.get(event)
    if check is not None and (_load is not None or _born) and check(*arguments):
        reached()


def _binds(sock: Any, address: Any) -> bool:
    """A TCP socket with a port, or a Unix socket with a file. Any port (0) is for clients and tests."""
    if sock.type != socket.SOCK_STREAM:
        return False
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return bool(address[1] != 0)
    return sock.family == socket.AF_UNIX and bool(address) and address[0] not in ("\0", 0)


def _removes_socket(path: Any, folder: Any) -> bool:
    """A server makes room for its Unix socket, where the app's is."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except (OSError, TypeError, ValueError):
        return False


_WORKER = os.path.join(PACKAGE_ROOT, "autocron_web", "pool", "__main__.py")  # as in sys.orig_argv


def _is_this_script(path: Any, arguments: Any, *rest: Any) -> bool:
    """A reloader starts the app anew."""
    if _load is None or isinstance(arguments, (str, bytes)):
        return False
    main = sys.modules["__main__"]
    names = {sys.argv[0], main.__file__, getattr(main.__spec__, "name", None), _WORKER}
    return any(os.fsdecode(word) in names for word in arguments)


def _while_loading(*arguments: Any) -> bool:
    return _load is not None


temporary: list[str] = []  # folders that were made by what was loaded: each process wants its own


def _is_noted(path: Any) -> bool:
    temporary.append(str(path))
    return False


_AUDITED: dict[str, Callable[..., bool]] = {
    "socket.bind": _binds,
    "os.remove": _removes_socket,
    "subprocess.Popen": _is_this_script,
    "os.exec": _is_this_script,
    "os.posix_spawn": _is_this_script,
    "os.fork": _while_loading,  # a daemon, or a server's children
    "builtins.input": _while_loading,
    "tempfile.mkdtemp": _is_noted,
}

# -- entries -------------------------------------------------------------------------------------------


class _Finder:
    """Puts `reached()` before the entries of a module when that is imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in ENTRIES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                _patch(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(module: types.ModuleType) -> None:
    for entry in ENTRIES[module.__name__]:
        owner: Any = module
        *path, name = entry.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        function = getattr(owner, name, None)
        if function is not None:  # other versions have other names; the audit events remain
            setattr(owner, name, _ending(function))


def _ending(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        reached()
        return function(*args, **kwargs)

    return call


@functools.cache
def _install() -> None:
    """Once in a worker; all of it does nothing while nothing is loaded."""
    sys.addaudithook(_audit)
    sys.meta_path.insert(0, _Finder)
    for name in ENTRIES.keys() & sys.modules.keys():
        _patch(sys.modules[name])


# -- the app's own code -----------------------------------------------------------------------------------

_LIBRARIES = (os.path.dirname(os.__file__) + os.sep, os.path.join(PACKAGE_ROOT, "autocron_web") + os.sep, "<")


def is_app(file: str) -> bool:
    """Whether code of this file is the app's, not a library's."""
    return not file.startswith(_LIBRARIES) and "/site-packages/" not in file and "/dist-packages/" not in file


def _place(frame: types.FrameType) -> list[Any]:
    """The module, the file, the line, and what stands there."""
    file, line = frame.f_code.co_filename, frame.f_lineno
    return [frame.f_globals["__name__"], file, line, linecache.getline(file, line).strip()]


def _has_more(frame: types.FrameType) -> bool:
    """Whether the code of this frame has something to define at its line or below."""
    from .waiting import defines_more

    code = frame.f_code
    first = None if code.co_name == "<module>" else code.co_firstlineno
    return defines_more("".join(linecache.getlines(code.co_filename)), frame.f_lineno, first)


def _again(frame: types.FrameType, event: str, argument: Any) -> Any:
    """A trace function: the app's code must not go on."""
    if event in ("line", "call") and is_app(frame.f_code.co_filename):
        raise ServerStarts
    return None if event == "call" else _again


def _rearm(frame: types.FrameType, event: str, argument: Any) -> None:
    """A profile function: a trace function that has raised is switched off by Python."""
    if sys.gettrace() is None:
        sys.settrace(_again)


def _keep(module: types.ModuleType) -> None:
    """Put back a module that the import system has removed, as its execution did not come to its end."""
    package, _, name = module.__name__.rpartition(".")
    sys.modules.setdefault(module.__name__, module)
    if package in sys.modules:
        setattr(sys.modules[package], name, module)


def _threads() -> set[int]:
    """The native ids of this process's threads."""
    try:
        return set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        import threading

        return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}
