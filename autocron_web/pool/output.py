"""What workers print: kept as the tail of the job that runs, and passed on to the newest app process."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from ..process import identity
from .loop import Loop

TAIL = 8 * 1024  # bytes of a job's output that are kept with the job
QUEUE = 1024 * 1024  # bytes that may wait until a terminal, pipe or file takes them
BURST = 0.02  # seconds that the monitor gives a full queue once, before it drops what comes
AGAIN = 0.01  # seconds between writes to what does not block and has no room, however ready it says it is


class Printer:
    """Writes to the stdout and stderr of the newest app process, and never waits for a reader.

    No question to the system tells for every kind of file whether a write will block: a terminal that polls
    as writable does, and so does a pipe to which somebody else writes, or a file on a disk that hangs. The
    flags of the descriptors are the app's, and what cannot be opened anew cannot get others. So each file has
    a thread that writes to it and may block, and a queue. What does not fit the queue is dropped, and so is
    the rest until the queue is empty; the next thing that is written says how much that was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # something was written, or could not be
        self._targets: list[_Target] = []  # stdout and stderr, which may be the same; empty without an app
        self._all: set[_Target] = set()  # also those of earlier apps that have not written everything yet
        self.dropped = 0

    def set_targets(self, targets: tuple[int, int] | None) -> None:
        """The app's stdout and stderr, or None when it is gone. They stay the caller's to close."""
        with self._changed:
            self._all = {target for target in self._all if not target.is_closed}
            before, self._targets = self._targets, []
            try:
                for fd in targets or ():
                    self._targets.append(self._target(fd))
            except OSError:  # no descriptor is left
                before, self._targets = before + self._targets, []
            for target in {*before} - {*self._targets}:
                target.retire()

    def _target(self, fd: int) -> _Target:
        """One that writes there already, so that all comes in its order and a hung file has one thread."""
        for target in (*self._targets, *self._all):
            if target.identity == identity(fd) and (target in self._targets or target.queue):
                target.retired = False
                return target
        target = _Target(fd, self, self._lock, self._changed)
        self._all.add(target)
        return target

    def say(self, text: str) -> None:
        """A line of the monitor's own, for the app's stderr."""
        self.write(1, f"autocron: {text}\n".encode(errors="replace"))

    def write(self, stream: int, data: bytes) -> None:
        """Pass on bytes to stdout (0) or stderr (1)."""
        with self._changed:
            if not self._targets:
                return
            target = self._targets[stream]
            if not target.has_room(len(data)):
                self.dropped += len(data)
                return
            if self.dropped:
                target.put(f"autocron: {self.dropped} bytes of output were dropped\n".encode(), self.dropped)
                self.dropped = 0
            target.put(data, len(data))

    def flush(self, timeout: float) -> bool:
        """Wait until all has been written; False if that takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(each.queue for each in self._all), timeout)


class _Target:
    """A file, terminal, pipe or socket of an app process, and the thread that writes to it.

    All but the writing itself is done while the printer's condition is held.
    """

    def __init__(self, fd: int, printer: Printer, lock: threading.Lock, changed: threading.Condition) -> None:
        self.identity = identity(fd)
        self.queue: deque[tuple[bytes, int]] = deque()  # pieces, and the bytes that are lost without each
        self.retired = False  # it ends when its queue is empty
        self._fd: int | None = os.dup(fd)  # the caller closes its own, perhaps during a write
        self._printer = printer
        self._changed = changed
        self._wanted = threading.Condition(lock)  # there is something for the thread to do
        self._size = 0  # bytes in the queue
        self._is_full = False  # until the queue is empty
        self._has_thread = True
        try:  # now: there may be none to be had when the monitor has to say just that
            threading.Thread(target=self._run, name="printer", daemon=True).start()
        except RuntimeError:
            self._has_thread = False

    @property
    def is_closed(self) -> bool:
        return self._fd is None

    def has_room(self, size: int) -> bool:
        if self._is_full and self.queue:
            return False
        # Whoever prints faster than a disk writes is not to lose anything: the thread only needs its turn.
        self._is_full = not self._changed.wait_for(
            lambda: not self.queue or self._size + size <= QUEUE, BURST
        )
        return not self._is_full

    def put(self, data: bytes, lost: int) -> None:
        """Let the thread write it. lost: bytes that count as dropped if it cannot."""
        self.queue.append((data, lost))
        self._size += len(data)
        if not self._has_thread:
            self._taken(1, False)
        elif len(self.queue) == 1:  # else the thread is writing, and sees it afterwards
            self._wanted.notify()

    def retire(self) -> None:
        """Nothing more is to be written but what waits."""
        self.retired = True
        self._wanted.notify()
        if not self._has_thread:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _run(self) -> None:
        with self._wanted:
            fd = self._fd
            assert fd is not None
            while True:
                self._wanted.wait_for(lambda: self.queue or self.retired)
                if not self.queue:
                    break
                pieces = [data for data, _ in self.queue]
                self._wanted.release()
                try:
                    written = _write(fd, b"".join(pieces))
                finally:
                    self._wanted.acquire()
                self._taken(len(pieces), written)
            self._close()

    def _taken(self, number: int, written: bool) -> None:
        """So many pieces of the queue have been written, or cannot be."""
        for _ in range(number):
            data, lost = self.queue.popleft()
            self._size -= len(data)
            if not written:
                self._printer.dropped += lost
        self._changed.notify_all()


def _write(fd: int, data: bytes) -> bool:
    """Write it all, however long that takes; False where it cannot be written."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:  # the app, or whoever has started it, wants it so
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
            time.sleep(AGAIN)
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
