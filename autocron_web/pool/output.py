"""What workers print: kept as the tail of the job that runs, and passed on to the newest app process."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from .loop import Loop

TAIL = 8 * 1024  # bytes of a job's output that are kept with the job
_PIECE = 4096  # PIPE_BUF: a pipe that polls as writable takes this much without blocking (pipe(7))


class Printer:
    """Writes to the stdout and stderr of the newest app process, and never waits for a reader.

    The descriptors belong to the app (they came with its hello), so their flags are left alone:
    each write is preceded by a poll and no larger than what cannot block. What nobody reads is
    dropped, and the next thing that can be written says how much that was.
    """

    def __init__(self) -> None:
        self._targets: tuple[int, int] | None = None
        self._dropped = 0

    def set_targets(self, targets: tuple[int, int] | None) -> None:
        """The app's stdout and stderr, or None when it is gone. They stay the caller's to close."""
        self._targets = targets

    def say(self, text: str) -> None:
        """A line of the monitor's own, for the app's stderr."""
        self.write(1, f"autocron: {text}\n".encode(errors="replace"))

    def write(self, stream: int, data: bytes) -> None:
        """Pass on bytes to stdout (0) or stderr (1)."""
        if self._targets is None:
            return
        if self._dropped:
            note = f"autocron: {self._dropped} bytes of output were dropped\n"
            if not self._write_piece(self._targets[stream], note.encode()):
                self._dropped += len(data)
                return
            self._dropped = 0
        for start in range(0, len(data), _PIECE):
            if not self._write_piece(self._targets[stream], data[start : start + _PIECE]):
                self._dropped += len(data) - start
                return

    @staticmethod
    def _write_piece(fd: int, piece: bytes) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        events = poll.poll(0)
        if not events or not events[0][1] & select.POLLOUT:
            return False
        try:
            os.write(fd, piece)
        except OSError:  # its terminal or pipe is gone
            return False
        return True


class Output:
    """The stdout and stderr of one worker: two pipes of which the monitor drains the ends."""

    def __init__(self, loop: Loop, printer: Printer) -> None:
        self._loop = loop
        self._printer = printer
        self._tail = bytearray()
        self._ends: list[int] = []
        self._poll = select.poll()
        self.before: Callable[[], bool] = lambda: False  # hear the worker; whether it has said something
        self.worker_ends: tuple[int, int]
        ends = []
        for stream, (out, into) in enumerate(_two_pipes()):
            os.set_blocking(out, False)
            self._ends.append(out)
            self._poll.register(out, select.POLLIN)
            ends.append(into)
            loop.watch(out, lambda stream=stream: self._readable(stream))  # type: ignore[misc]
        self.worker_ends = (ends[0], ends[1])

    def close_worker_ends(self) -> None:
        """Once the worker has inherited them."""
        for fd in self.worker_ends:
            os.close(fd)

    def take(self) -> str | None:
        """What was printed since the last call: the tail, at most `TAIL` bytes of it."""
        for fd, _ in self._poll.poll(0):  # one call instead of two, as nearly all tasks print nothing
            self._drain(self._ends.index(fd))
        return self.drained()

    def drained(self) -> str | None:
        """The same without looking for more.

        That is for jobs that end on a shelf: one that leaves something in the pipes says so, and waits. What
        was read while it ran came after `before`, so it belongs to the first end that is told of now.
        """
        if not self._tail:
            return None
        text = self._tail.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._tail.clear()
        return text

    def close(self) -> None:
        for stream, fd in enumerate(self._ends):
            self._drain(stream)
            self._loop.unwatch(fd)
            os.close(fd)
        self._ends.clear()

    def _readable(self, stream: int) -> None:
        """What has come belongs to a job whose end has not been heard yet, so that is asked first.

        If something was heard, the worker may have been told to go on: then it is too late, or too soon, for
        this look, and there will be another. And only once: what comes next may be of the next job.
        """
        if not self.before() and self._ends:
            self._read(stream)

    def _drain(self, stream: int) -> None:
        for _ in range(16):  # then others have their turn
            if not self._read(stream):
                return

    def _read(self, stream: int) -> bool:
        """Whether there was something."""
        fd = self._ends[stream]
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:  # the worker has closed its end
            self._loop.unwatch(fd)
            return False
        self._tail += data
        del self._tail[:-TAIL]
        self._printer.write(stream, data)
        return True


def _two_pipes() -> list[tuple[int, int]]:
    first = os.pipe()
    try:
        return [first, os.pipe()]
    except OSError:  # no descriptor is left
        for fd in first:
            os.close(fd)
        raise
