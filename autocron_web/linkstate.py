"""What an app process has of its link to the monitor, and the link's thread waits for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from .connection import Connection
from .framelock import FrameLock
from .process import identity, readable

MAX_OVER = 64  # jobs that nobody waits for any more, until the monitor is told of them


class Own:
    """What belongs to one process and must not be used in its forks."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Both are reentrant, as the handler of a signal may call a task or `start()` at any moment.
        self.lock = FrameLock()  # held for moments: guards `connection`, `thread`, pipe and `watchers`
        self.joining = FrameLock()  # held while a monitor is sought, started and greeted
        self.connection: Connection | None = None
        self.watchers: dict[str, list[Callable[[], object]]] = {}
        self.over: deque[str] = deque()  # jobs that nobody waits for any more, which the monitor is to forget
        self.modules: list[str] = []  # those that were told since the process began
        self.again: float | None = 0.0  # seconds before another monitor may be started; None: never
        self.no_join_before = 0.0  # when a call may try again to get a pool after that has failed
        self.thread: threading.Thread | None = None
        self.no_thread_before = 0.0  # when that may be tried again where no thread was to be had
        self.halt = False  # the thread is to end
        self.paused = False  # it was, while the process forks
        self.waits = False  # it waits for the next try to get a pool
        self.tries = 0
        self.joined = 0.0  # when the last of them ended
        self._pipe: tuple[int, int] | None = None  # wakes the thread
        self._identity: tuple[int, int] | None = None  # that of both ends

    def take_over(self) -> list[str]:
        """Return jobs that nobody waits for any more, for the next frame: it costs none of its own."""
        over: list[str] = []
        with suppress(IndexError):  # other threads take some, too
            while len(over) < MAX_OVER:
                over.append(self.over.popleft())
        return [job_id for job_id in over if job_id not in self.watchers]

    def drop(self, connection: Connection) -> None:
        """It is of no use any more; the next use makes another."""
        with self.lock:
            connection.close()
            if self.connection is connection:
                self.connection = None

    def pipe(self) -> int:
        """The end from which the thread hears that it is woken; made anew where somebody has closed it."""
        with self.lock:
            if not self._has_pipe():
                ends = os.pipe()
                self._pipe, self._identity = ends, identity(ends[0])
                for end in ends:
                    os.set_blocking(end, False)
            assert self._pipe is not None
            return self._pipe[0]

    def _has_pipe(self) -> bool:
        return self._pipe is not None and self._identity == identity(self._pipe[0]) == identity(self._pipe[1])

    def wake_thread(self) -> None:
        with self.lock:
            if self._pipe is not None and self._has_pipe():
                with suppress(BlockingIOError):  # it is to wake up already
                    os.write(self._pipe[1], b"x")

    def wait(self, connection: Connection | None, pause: float | None) -> bool:
        """Let the thread wait until it is woken or the monitor says something, and tell whether it has."""
        pipe = self.pipe()
        wanted = [pipe] if connection is None else [pipe, connection.fileno()]
        try:
            heard = readable(wanted, pause)
        except (OSError, ValueError):  # the connection was closed by another thread
            return False
        if pipe in heard and self._has_pipe():
            with suppress(BlockingIOError):
                os.read(pipe, 4096)
        return len(wanted) > 1 and (wanted[1] in heard or not self._has_pipe())
