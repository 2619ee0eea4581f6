"""The monitor's event loop: descriptors, timers, calls from the store thread. It blocks, it never polls.

Each callback fails alone: what it raises goes to `on_failure`, and the loop goes on. A descriptor whose
callback has failed is not watched any more, as it would fail again at once.
"""

from __future__ import annotations

import heapq
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Callback = Callable[[], object]

LONGEST_WAIT = 3600.0  # seconds: epoll takes no more than 24 days, and the loop may look up once an hour
FEW = 100  # cancelled timers that may be kept, whatever their share


class Timer:
    """A call that is due at a moment of the monotonic clock."""

    __slots__ = ("_cancelled", "callback", "moment")

    def __init__(self, moment: float, callback: Callback | None, cancelled: Callback) -> None:
        self.moment, self.callback = moment, callback
        self._cancelled = cancelled

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._cancelled()

    def __lt__(self, other: Timer) -> bool:
        return self.moment < other.moment


class Loop:
    """One thread's loop. Only `call_soon` may be used from other threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._dead = 0  # of them, those that were cancelled
        self.on_failure: Callable[[Exception], object] = _raise
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
        timer = Timer(self.time() + seconds, callback, self._bury)
        heapq.heappush(self._timers, timer)
        return timer

    def _bury(self) -> None:
        """A timer was cancelled. Most are, long before their moment: the clocks of jobs that end in time."""
        self._dead += 1
        if self._dead > FEW and 2 * self._dead > len(self._timers):
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._dead = 0

    def call_soon(self, callback: Callback) -> None:
        """Run `callback` in the loop's thread; from any thread."""
        self._soon.append(callback)
        try:
            os.write(self._wake_in, b"\0")
        except BlockingIOError:
            pass  # a full pipe wakes as well

    def stop(self) -> None:
        self._running = False

    def guard(self, callback: Callable[[], T], dropped: Callback | None = None) -> T | None:
        """Call what may fail alone: None if it raises, after `dropped()`, which ends what it is about."""
        try:
            return callback()
        except Exception as error:
            self.on_failure(error)
            if dropped is not None:
                self.guard(dropped)
            return None

    def run(self) -> None:
        self._running = True
        while self._running:
            for key, events in self._selector.select(self._pause()):
                readable, writable = key.data
                # A call before this one may have ended this watch, or replaced it.
                if events & selectors.EVENT_READ and self._holds(key):
                    self._call(key, readable)
                if writable and events & selectors.EVENT_WRITE and self._holds(key):
                    self._call(key, writable)
            self._run_due()

    def _call(self, key: selectors.SelectorKey, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            self.unwatch(key.fileobj)
            self.on_failure(error)

    def _holds(self, key: selectors.SelectorKey) -> bool:
        return self._selector.get_map().get(key.fd) is key

    def _pause(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
            self._dead -= 1
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0].moment - self.time()), LONGEST_WAIT)

    def _run_due(self) -> None:
        current = self.time()
        while self._timers and self._timers[0].moment <= current:
            timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._dead -= 1
            else:
                self.guard(callback)

    def _woken(self) -> None:
        try:
            os.read(self._wake_out, 4096)
        except BlockingIOError:
            pass
        for _ in range(len(self._soon)):
            self.guard(self._soon.popleft())


def _raise(error: Exception) -> None:
    raise error
