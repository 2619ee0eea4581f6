"""A process that has loaded the app and forks the workers, which so have most of their memory in common.

    monitor ── FORK, with the worker's descriptors ──► template
       ▲                                                  │ forks twice
       └──────────── READY, with its pid ────────────── worker, an orphan that the monitor has adopted

A fork takes over all that the app has loaded, and nothing else: no thread, no connection. So what the app has
made while it was loaded decides whether that can be (`unfit`). A worker that was forked is one as any other:
a child of the monitor, in a group of its own, with its own pipes and random numbers.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import BuiltinFunctionType
from typing import Any, NoReturn

from .. import codec  # noqa: F401 - all workers need it
from ..execution import flush_output
from ..process import adopt_orphans, children, die_with_parent, identity
from . import mainmodule
from .wire import Decoder, Frame, Kind, encode

MOST_ENDS = 16  # descriptors that one message brings at most
HARMLESS = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")


# -- whether this process can be forked --------------------------------------------------------------------


class Before:
    """What this process has open before it loads the app."""

    def __init__(self) -> None:
        self.descriptors = _descriptors()
        self.mappings = _shared_mappings()


def unfit(before: Before, ends: Sequence[int] = ()) -> str | None:
    """Why this process cannot be forked, now that the app is loaded; None if it can.

    ends: descriptors that are meant for the fork.

    Each process that loads the app makes these for itself. In common with others they do harm: a position in
    a file that all of them move, the half of a conversation on a socket, a lock that a killed process holds.
    """
    if not all(isinstance(call, BuiltinFunctionType) for call in (os.fork, os.waitpid, time.sleep)):
        return "the app has replaced functions of the system, as gevent and eventlet do"
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        return f"the app has started {threads - 1} threads while it was loaded"
    for fd, *_ in _descriptors() - before.descriptors:
        if fd not in ends and not _may_be_shared(fd):
            return f"the app has opened {_name(fd)} while it was loaded"
    if started := children():
        return f"the app has started the process {started[0].pid} ({started[0].name}) while it was loaded"
    if mappings := _shared_mappings() - before.mappings:
        return f"the app has mapped {min(mappings)}, to share it, while it was loaded"
    if mainmodule.temporary:
        return f"the app has made the folder {mainmodule.temporary[0]} while it was loaded"
    if _has_generator():
        return "the app has made a random.Random(), whose numbers would be the same in all workers"
    return None


def _descriptors() -> set[tuple[int, tuple[int, int]]]:
    """Those that are open, each with what it stands for."""
    found = [(int(name), identity(int(name))) for name in os.listdir("/proc/self/fd")]
    return {(fd, what) for fd, what in found if what is not None}  # else it was that of the listing


def _name(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _may_be_shared(fd: int) -> bool:
    """What has no position and no state: a log, to which each process appends, or a device."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return bool(flags & os.O_APPEND) and flags & os.O_ACCMODE == os.O_WRONLY
    return stat.S_ISCHR(mode) and _name(fd) in HARMLESS


def _shared_mappings() -> set[str]:
    """Memory that forks would go on to write in common (proc(5), maps)."""
    with open("/proc/self/maps") as file:
        found = [line.split(maxsplit=5) for line in file]
    return {fields[-1].strip() for fields in found if fields[1].startswith("rw") and fields[1][3] == "s"}


def _has_generator() -> bool:
    """Python gives its own generator, behind `random.random`, another seed in each fork, but no other one."""
    random = sys.modules.get("random")
    if random is None:
        return False
    own = random._inst
    return any(
        # not isinstance(), which would wake up objects that are made at their first use
        issubclass(type(found), random.Random)
        and not issubclass(type(found), random.SystemRandom)
        and found is not own
        for found in gc.get_objects()
    )


# -- the template ------------------------------------------------------------------------------------------


class Template:
    """Loads the app, and then forks a worker for each FORK.

    sock: the connection to the monitor. load: loads the app, or more of it, and answers with a READY.
    """

    def __init__(self, sock: socket.socket, load: Callable[[dict[str, Any]], Frame]) -> None:
        self._sock = sock
        self._load = load
        self._monitor = os.getppid()
        self._before = Before()
        self._title = _Title()
        self.known: dict[str, Any] = {}  # what a worker says that has loaded all this
        self.unfit: str | None = None  # why no worker can be forked

    def load(self, frame: Frame) -> Frame:
        """Load what the frame says, and see whether a worker can be forked then; the answer to the frame."""
        answer = self._load(frame.head)
        die_with_parent(self._monitor)
        if "trouble" not in answer.head:
            files = {**self.known.get("files", {}), **answer.head["files"]}
            self.known = {**answer.head, "files": files}
            answer.head["unfit"] = self.unfit = unfit(self._before)
        return answer

    def serve(self) -> list[int]:
        """Returns in a worker, after its birth: its descriptors. This process ends here."""
        adopt_orphans(False)
        self._title.say_template()
        self._settle()
        decoder, ends = Decoder(), list[int]()
        while True:
            data, received, _, _ = socket.recv_fds(self._sock, 65536, MOST_ENDS, socket.MSG_CMSG_CLOEXEC)
            if not data:
                self._end()
            ends += received
            for frame in decoder.feed(data):
                if frame.kind == Kind.LOAD:
                    self._load_more(frame)
                elif self._fork(ends):
                    return ends
                else:
                    for fd in ends:
                        os.close(fd)
                    ends = []

    @staticmethod
    def _settle() -> None:
        """Nothing here is garbage, and no look for that writes on these pages any more, here or in a fork."""
        gc.collect()
        gc.freeze()

    def _load_more(self, frame: Frame) -> None:
        answer = self.load(frame)
        flush_output()
        self._sock.sendall(encode(answer))
        if "trouble" in answer.head or self.unfit:
            self._end()
        self._settle()

    def _end(self) -> NoReturn:
        """At once: the end of an interpreter takes its objects apart, on pages that workers use too."""
        atexit._run_exitfuncs()
        flush_output()
        os._exit(0)

    def _fork(self, ends: list[int]) -> bool:
        """Fork a worker; True in that. Twice, so that it is the monitor's child, and not this process's."""
        reason = unfit(self._before, ends)
        if reason is not None:
            self._refuse(reason)
        # Until the worker has its handlers, a signal to all processes would end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        handlers = [signal.getsignal(number) for number in _HEEDED]
        try:
            between = os.fork()
        except OSError as error:
            self._refuse(error.strerror)
        if between:
            with suppress(ChildProcessError):  # the app ignores SIGCHLD
                os.waitpid(between, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
            return False
        between = os.getpid()
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            os._exit(1)
        self._be_born(between)
        for number, handler in zip(_HEEDED, handlers, strict=True):
            if handler is not None:  # set from C
                signal.signal(number, handler)
        return True

    def _be_born(self, parent: int) -> None:
        """Become the monitor's child, as soon as the process in between has ended; a worker as any other."""
        os.setpgid(0, 0)
        while os.getppid() == parent:
            time.sleep(0.0001)
        die_with_parent(self._monitor)
        adopt_orphans()
        self._title.say_worker()
        self._sock.close()
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()

    @staticmethod
    def _refuse(reason: object) -> NoReturn:
        sys.stderr.write(f"autocron: no worker can be forked any more: {reason}\n")
        sys.stderr.flush()
        os._exit(1)


_HEEDED = (signal.SIGTERM, signal.SIGINT)


class _Title:
    """The word for this process in the lists of `ps` and `top`, where its command line says `worker`."""

    def __init__(self) -> None:
        self._place = 0
        self._usual = b""  # the word and what follows: numbers of descriptors, which say nothing to anybody
        with suppress(OSError, ValueError):
            with open("/proc/self/stat", "rb") as file:
                start, end = map(int, file.read().rpartition(b")")[2].split()[45:47])  # arg_start, arg_end
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                command = memory.read(end - start)
            self._place = start + command.index(b"worker\0", command.index(b"/pool/__main__.py\0"))
            self._usual = command[self._place - start :]

    def say_template(self) -> None:
        self._write(b"template".ljust(len(self._usual), b"\0"))

    def say_worker(self) -> None:
        self._write(self._usual)

    def _write(self, words: bytes) -> None:
        if len(words) == len(self._usual):
            with suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(self._place)
                memory.write(words)
