"""The monitor's event loop: descriptors, timers, calls from the store thread. It blocks, it never polls."""

from __future__ import annotations

import heapq
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Callback = Callable[[], object]


class Timer:
    """A call that is due at a moment of the monotonic clock."""

    __slots__ = ("callback", "moment")

    def __init__(self, moment: float, callback: Callback | None) -> None:
        self.moment, self.callback = moment, callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.moment < other.moment


class Loop:
    """One thread's loop. Only `call_soon` may be used from other threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._soon: deque[Callback] = deque()
        self._running = False
        self._wake_out, self._wake_in = os.pipe()
        for fd in (self._wake_out, self._wake_in):
            os.set_blocking(fd, False)
        self.watch(self._wake_out, self._woken)

    @property
    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`: a signal ends the wait."""
        return self._wake_in

    def watch(self, fd: Any, readable: Callback, writable: Callback | None = None) -> None:
        """Call `readable` (and `writable`) whenever the descriptor is; replaces an earlier watch."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        try:
            self._selector.modify(fd, events, (readable, writable))
        except KeyError:
            self._selector.register(fd, events, (readable, writable))

    def unwatch(self, fd: Any) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError):
            pass  # was not watched, or is closed already

    @staticmethod
    def time() -> float:
        """The clock of the timers, in seconds."""
        return time.monotonic()

    def after(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(self.time() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Run `callback` in the loop's thread; from any thread."""
        self._soon.append(callback)
        try:
            os.write(self._wake_in, b"\0")
        except BlockingIOError:
            pass  # a full pipe wakes as well

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            for key, events in self._selector.select(self._pause()):
                readable, writable = key.data
                # A call before this one may have ended this watch, or replaced it.
                if events & selectors.EVENT_READ and self._holds(key):
                    readable()
                if writable and events & selectors.EVENT_WRITE and self._holds(key):
                    writable()
            self._run_due()

    def _holds(self, key: selectors.SelectorKey) -> bool:
        return self._selector.get_map().get(key.fd) is key

    def _pause(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].moment - self.time()) if self._timers else None

    def _run_due(self) -> None:
        current = self.time()
        while self._timers and self._timers[0].moment <= current:
            timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _woken(self) -> None:
        try:
            os.read(self._wake_out, 4096)
        except BlockingIOError:
            pass
        for _ in range(len(self._soon)):
            self._soon.popleft()()
