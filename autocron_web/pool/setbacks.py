"""Starts of workers that failed, or were in vain: why, and when the next one is due."""

from __future__ import annotations

from collections.abc import Callable

from .loop import Loop, Timer
from .output import Printer

PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker that cannot start is tried again


class Setbacks:
    """After each one in a row it takes longer until the next start. The first failure is told to the app."""

    def __init__(self, loop: Loop, printer: Printer, again: Callable[[], None]) -> None:
        self._loop = loop
        self._printer = printer
        self._again = again  # start what is missing
        self._number = 0  # in a row
        self._last = 0.0
        self._pause: Timer | None = None
        self._end: str | None = None  # how the last worker ended that could not start
        self._lasting: dict[str, str] = {}  # what is not as it was asked for, though workers work
        self.trouble: str | None = None  # why workers cannot load the app: its own error

    @property
    def why(self) -> str | None:
        """Why workers cannot start, from the first failure until one has loaded the app, or are too few."""
        return self.trouble or self._end or next(iter(self._lasting.values()), None)

    @property
    def pausing(self) -> bool:
        """Whether the next start has to wait."""
        return self._pause is not None and self._pause.callback is not None

    def add(self, how: str, what: str = "cannot start") -> None:
        """A worker could not be started, or has ended at once."""
        self._end = f"a worker {what}: it {how}"
        if self._number == 0:
            self._printer.say(
                f"a worker {what}: {self.trouble or 'it ' + how}; tried again, at most every 30 s"
            )
        self.wait()

    def reload(self, path: str) -> None:
        """The app has to be loaded anew before it can be forked, as this file of it has changed."""
        if self._number == 1:
            self._printer.say(f"the app is loaded again and again, as its files change: the last was {path}")
        self.wait()

    def lasts(self, what: str, why: str | None) -> None:
        """Workers work, but not as it was asked for: `why` is told when it begins; None: it has ended."""
        if why is None:
            self._lasting.pop(what, None)
            return
        if what not in self._lasting:
            self._printer.say(why)
        self._lasting[what] = why

    def wait(self) -> None:
        """Start what is missing after a pause."""
        pause = PAUSES[min(self._number, len(PAUSES) - 1)]
        self._number += 1
        self._last = self._loop.time()
        self._pause = self._loop.after(pause, self._again)

    def loaded(self) -> None:
        """A worker has loaded the app."""
        self.trouble = self._end = None

    def lived(self, since: float) -> None:
        """A worker that was started then can live."""
        if since > self._last:
            self._number = 0

    def forget(self) -> None:
        """There is newer code, which is tried at once."""
        self._number = 0
        self.stop()

    def stop(self) -> None:
        """No pause has to be waited for."""
        if self._pause is not None:
            self._pause.cancel()
