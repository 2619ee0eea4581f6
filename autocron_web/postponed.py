"""A start that is left for later: to the forks of a preloading server, or to the first call of a task."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from .framelock import FrameLock

LATE = 1.0  # seconds after its birth at which a preloading server's child starts what was left to it


class OwnLock:
    """A lock for each process: one that a fork has inherited may be held for ever, by a thread that it lacks.

    Reentrant, as the handler of a signal may call `start()` while that is under way.
    """

    def __init__(self) -> None:
        self._locks: dict[int, FrameLock] = {}  # by pid

    def mine(self) -> FrameLock:
        """The lock of this process."""
        pid = os.getpid()
        return self._locks.get(pid) or self._locks.setdefault(pid, FrameLock())


class Postponed:
    """start: what is left to do, once in a process. user: as whom that process has to run then."""

    def __init__(self, start: Callable[[], object], user: int) -> None:
        self._start = start
        self._user = user
        self._done = False
        self._lock = OwnLock()

    def begin(self) -> None:
        """Start, unless that is done, or this process has not become the user yet."""
        if self._done:
            return
        with self._lock.mine():  # a call waits for the start that is under way in the timer's thread
            if not self._done and os.geteuid() == self._user:
                self._start()
                self._done = True

    def begin_in_forks(self, *, green: bool) -> None:
        """Start in each child of this process, a moment after its birth: then it serves, as its user.

        green: it puts gevent's greenlets in the place of threads then. With these the start must not be made
        by a real thread: their locks, sockets and processes do not get on with it.
        """
        os.register_at_fork(after_in_child=self._begin_with_gevent if green else self._begin_late)

    def _begin_late(self) -> None:
        if not self._done:
            timer = threading.Timer(LATE, self.begin)
            timer.daemon = True
            timer.start()

    def _begin_with_gevent(self) -> None:
        if not self._done:
            from gevent import events

            events.subscribers.append(self._heed_gevent)

    def _heed_gevent(self, event: object) -> None:
        from gevent import events, spawn_later

        if isinstance(event, events.GeventDidPatchAllEvent):
            self._lock = OwnLock()  # of greenlets from now on
            spawn_later(LATE, self.begin)
