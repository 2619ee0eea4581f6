"""What a task changes in its process: put back after it, so that it hurts no other, or told in the log."""

from __future__ import annotations

import _locale
import faulthandler
import fcntl
import os
import resource
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

from ..process import children, identity
from .room import high

_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS = tuple(range(1, 32))

#: Functions of `signal` without its enums, which cost thirty times as much.
_handler_of: Callable[[int], Any] = sys.modules["_signal"].getsignal
_mask: Callable[[int, Iterable[int]], Any] = sys.modules["_signal"].pthread_sigmask
_environment: dict[bytes, bytes] = vars(os.environ)["_data"]  # `dict(os.environ)` decodes all of it


def has_printed() -> bool:
    """Whether the monitor has not read yet all that this process has written to its pipes."""
    for fd in (1, 2):
        try:
            fcntl.ioctl(fd, termios.FIONREAD, _unread)
        except OSError:  # a task has closed it for good
            return True
        if any(_unread):
            return True
    return False


_unread = bytearray(4)


class _State(NamedTuple):
    """What a process can read of itself, and mostly set."""

    user: tuple[int, int, int]
    group: tuple[int, int, int]
    limits: tuple[tuple[int, int], ...]
    pipes: tuple[tuple[int, int] | None, ...]
    folder: str | None
    locale: str
    recursion: int
    switching: float
    timeout: float | None
    handlers: tuple[Any, ...]


def _state() -> _State:
    """Read after each task: nothing here may take long."""
    return _State(
        os.getresuid(),
        os.getresgid(),
        tuple(map(resource.getrlimit, _LIMITS)),
        (identity(1), identity(2)),
        _folder(),
        _locale.setlocale(_locale.LC_ALL),
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        socket.getdefaulttimeout(),
        tuple(map(_handler_of, _SIGNALS)),
    )


class Traces:
    """The process as it is to be when a task begins: as it was when the app had been loaded.

    A look after each task costs some microseconds, as nearly all tasks change nothing. What they print to and
    the traceback of a crash go to descriptors of which copies are kept, whatever a task closes.
    """

    def __init__(self) -> None:
        self._streams: list[TextIO] = [sys.stdout, sys.stderr]
        self._forms = [(stream.encoding, stream.errors) for stream in self._streams]
        self._told: set[object] = set()  # of what the log knows already
        self._decimal: Any = None
        self._copies: list[int] = []
        self.take()
        self.renew()

    def take(self) -> None:
        """Note how things are: the app has been loaded, or more of it."""
        self._state = _state()
        self._environ = dict(_environment)
        self._path = list(sys.path)
        self._modules = len(sys.modules)
        self._blocked = _mask(signal.SIG_BLOCK, ())
        self._timers = [timer for timer in _TIMERS if not signal.getitimer(timer)[0]]
        self._umask = _umask()
        self._threads = set(threading.enumerate())
        self._put_back_decimal()

    def renew(self) -> None:
        """Another process begins here, or a fork of it: with its own pipes and group."""
        before = self._copies
        self._copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high()) for fd in (1, 2)]
        self._group = os.getpgid(0)
        faulthandler.enable(self._copies[1])
        for fd in before:
            os.close(fd)
        self._state = self._state._replace(pipes=(identity(1), identity(2)))

    def put_back(self, task: str) -> str | None:
        """Put back what the task has changed. Why that cannot be, so that no other may run here, or None."""
        for timer in self._timers:
            signal.setitimer(timer, 0)
        _mask(signal.SIG_SETMASK, self._blocked)
        trouble = self._end_coroutines(task)
        os.umask(self._umask)
        now = _state()
        if now != self._state:
            trouble = self._put_back_state(now) or trouble
        self._put_back_streams()
        self._put_back_names()
        self._put_back_decimal()
        self._tell_of_threads(task)
        self._tell_of_children(task)
        return trouble

    def _put_back_state(self, now: _State) -> str | None:
        before = self._state
        for number, handler, first in zip(_SIGNALS, now.handlers, before.handlers, strict=True):
            if handler != first and first is not None:  # None: not set from Python
                signal.signal(number, first)
        for index, pipe in enumerate(before.pipes):
            if now.pipes[index] != pipe and identity(self._copies[index]) == pipe:
                os.dup2(self._copies[index], index + 1)
        if before.folder is not None and now.folder != before.folder:
            with suppress(OSError):  # a deploy has deleted it
                os.chdir(before.folder)
        _locale.setlocale(_locale.LC_ALL, before.locale)
        sys.setrecursionlimit(before.recursion)
        sys.setswitchinterval(before.switching)
        socket.setdefaulttimeout(before.timeout)
        if (now.user, now.group) != (before.user, before.group):
            return "has changed the user of its process"
        try:
            for limit, first, pair in zip(_LIMITS, before.limits, now.limits, strict=True):
                if pair != first:
                    resource.setrlimit(limit, first)
        except (ValueError, OSError):
            return "has lowered a limit of its process for good"
        return None

    def _put_back_streams(self) -> None:
        for index, stream in enumerate(self._streams):
            if not _is_open(stream):
                self._streams[index] = open(  # noqa: SIM115 - for good
                    index + 1, "w", 1, *self._forms[index], closefd=False
                )
        sys.stdout, sys.stderr = self._streams

    def _put_back_names(self) -> None:
        """Where modules and variables are looked up.

        A module that the task was the first to import may need what it has added there for as long as the
        process lives: it is not executed again.
        """
        imported, self._modules = len(sys.modules) != self._modules, len(sys.modules)
        if sys.path != self._path:
            if imported:
                self._path += [entry for entry in sys.path if entry not in self._path]
            sys.path[:] = self._path
        if _environment != self._environ:
            if imported:
                self._environ = _environment | self._environ
            for name in _environment.keys() - self._environ.keys():
                del os.environb[name]
            for name, value in self._environ.items():
                if _environment.get(name) != value:
                    os.environb[name] = value

    def _put_back_decimal(self) -> None:
        """Tasks run in a copy of the context, which holds the same object for the rules of decimals."""
        decimal = sys.modules.get("decimal")
        if decimal is not None:
            if self._decimal is None:
                self._decimal = decimal.getcontext().copy()
            decimal.setcontext(self._decimal.copy())

    def _end_coroutines(self, task: str) -> str | None:
        """They would go on beside a later job. Those of jobs beside each other: when none runs any more."""
        eventloop = sys.modules.get("autocron_web.eventloop")
        left = eventloop.end_left() if eventloop is not None else ()
        names: dict[str, list[str]] = {}
        for of, name, _ in left:
            names.setdefault(of or task, []).append(name)
        for of, coroutines in names.items():
            if ("coroutines", of) not in self._told:
                self._told.add(("coroutines", of))
                few = ", ".join(sorted(coroutines)[:5])
                _warn(f"{of} has left {len(coroutines)} coroutines running ({few}): they were cancelled")
        going_on = sorted(name for _, name, ended in left if not ended)
        return f"has left a coroutine that goes on when it is cancelled ({going_on[0]})" if going_on else None

    def _tell_of_threads(self, task: str) -> None:
        """They go on, and end with the worker. It does not wait for them."""
        if threading.active_count() <= len(self._threads):
            return
        threads = set(threading.enumerate())
        left = [
            thread.name
            for thread in threads - self._threads
            if not thread.daemon and not thread.name.startswith(_OF_THE_LOOP)
        ]
        self._threads = threads
        if left and task not in self._told:
            self._told.add(task)
            names = ", ".join(sorted(left)[:5])
            _warn(
                f"{task} has left {len(left)} threads running ({names}):"
                " they end with the worker, which may be at any moment"
            )

    def _tell_of_children(self, task: str) -> None:
        """Those in a process group of their own outlive the worker: they are left alone."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        for pid, name, group, ended in children():
            if ended and pid in self._told:
                os.waitpid(pid, os.WNOHANG)  # an orphan: nobody else would
                self._told.discard(pid)
            elif not ended and group != self._group and pid not in self._told:
                self._told.add(pid)
                _warn(f"{task} has left the process {pid} ({name}) running: it is left alone")


_OF_THE_LOOP = "asyncio_"  # the threads of `asyncio.to_thread`, which wait for more to do


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it has been deleted
        return None


def _is_open(stream: TextIO) -> bool:
    try:
        return not stream.closed
    except ValueError:  # its buffer has been detached
        return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _warn(text: str) -> None:
    import logging

    logging.getLogger("autocron_web.task").warning(text)
