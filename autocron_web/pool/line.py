"""How a worker talks to its monitor: frames in order, and requests with answers."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..process import identity
from .wire import Decoder, Frame, Kind, encode, error_of

if TYPE_CHECKING:
    import asyncio


class Line:
    """One end of a connection to the monitor: frames in order, and requests with answers, from any thread.

    A task may leave threads behind that go on asking while the worker waits for its next job. So
    whoever waits for a frame reads for all, and tells the others. A coroutine that waits holds no thread:
    its event loop reads the line meanwhile.
    """

    def __init__(self, sock: socket.socket, *, is_workers: bool = True) -> None:
        self.sock = sock
        self._is_workers = is_workers  # not that of a process which a task has forked
        self.fd, self._identity = sock.fileno(), identity(sock.fileno())
        self.pid = os.getpid()
        self._decoder = Decoder()
        self._heard: deque[Frame] = deque()
        self._asked: dict[int, Callable[[Frame | None], object]] = {}  # who waits for which answer
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}  # that read, and how many want each to
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        # Not an RLock: eventlet puts green ones in the place of those, this one while it is held.
        self._news = threading.Condition(threading.Lock())
        self._reading = False  # a thread is reading for all
        # Frames have come that are no answers; in any thread.
        self.on_heard: Callable[[], object] | None = None
        self.on_end: Callable[[], object] = self._end  # an event loop has come to the end of the channel

    def send(self, frame: Frame) -> None:
        self._check()
        data = encode(frame)
        with self._writing:
            self.sock.sendall(data)

    def _check(self) -> None:
        if identity(self.fd) != self._identity:
            sys.stderr.write("the task has closed the worker's connection to its pool, so the worker ends\n")
            os._exit(1)

    def _send_soon(self, frame: Frame) -> None:
        """Send it from an event loop; a thread does it if there is no room, or another frame comes first."""
        self._check()
        left, held = memoryview(encode(frame)), self._writing.acquire(blocking=False)
        if held:
            try:
                left = left[self.sock.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                pass
            except BaseException:
                self._writing.release()
                raise
            if not left:
                self._writing.release()
                return
        sender = threading.Thread(
            target=self._send_rest, args=(left, held), name="autocron-send", daemon=True
        )
        try:
            sender.start()
        except RuntimeError:  # no thread is to be had
            self._send_rest(left, held)

    def _send_rest(self, left: memoryview, held: bool) -> None:
        """held: the lock is this frame's already."""
        if not held:
            self._writing.acquire()
        try:
            self.sock.sendall(left)
        except OSError:
            pass  # the channel has ended: whoever reads notices it
        finally:
            self._writing.release()

    def next(self) -> Frame | None:
        """The next thing to do, or None at the end of the channel."""
        return self._heard.popleft() if self._wait_for(lambda: bool(self._heard)) else None

    def poll(self) -> bool:
        """Read what is there, without waiting; False at the end of the channel."""
        with self._news:
            try:
                return self._reading or self._read(socket.MSG_DONTWAIT)
            except BlockingIOError:  # another thread was faster
                return True

    def take(self, *kinds: int) -> list[Frame]:
        """The frames of these kinds that have been read, in their order."""
        with self._news:
            taken = [frame for frame in self._heard if frame.kind in kinds]
            self._heard = deque(frame for frame in self._heard if frame.kind not in kinds)
            return taken

    def ask(self, head: dict[str, Any], blob: bytes = b"") -> Frame:
        """Send a request of the running task and wait for its answer."""
        answers: list[Frame | None] = []
        with self._asking(answers.append) as number:
            self.send(Frame(Kind.ASK, number, head, blob))
            ended = not self._wait_for(lambda: bool(answers))
        if ended:
            self._end()
        return _answered(answers[0] if answers else None)

    async def ask_soon(self, head: dict[str, Any], blob: bytes = b"") -> Frame:
        """The same in a coroutine of any event loop, which is not held up, nor any thread of its executor."""
        import asyncio

        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Frame | None] = loop.create_future()

        def settle(frame: Frame | None) -> None:
            if not answer.done():
                answer.set_result(frame)

        def arrive(frame: Frame | None) -> None:
            with suppress(RuntimeError):  # the loop was closed, and this coroutine never ended
                loop.call_soon_threadsafe(settle, frame)

        with self._asking(arrive) as number:
            self._send_soon(Frame(Kind.ASK, number, head, blob))
            with self.read_by(loop):
                return _answered(await answer)

    @contextmanager
    def _asking(self, arrive: Callable[[Frame | None], object]) -> Iterator[int]:
        """A number for a request, whose answer `arrive` gets; one that comes later is nobody's."""
        number = next(self._numbers)
        self._asked[number] = arrive
        try:
            yield number
        finally:
            self._asked.pop(number, None)

    @contextmanager
    def read_by(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Let the event loop that runs here read the line, for as long as anybody wants it to."""
        wanted = self._loops.get(loop, 0)
        self._loops[loop] = wanted + 1
        if not wanted:
            loop.add_reader(self.fd, self.read)
        try:
            yield
        finally:
            self._loops[loop] -= 1
            if not self._loops[loop]:
                del self._loops[loop]
                if not loop.is_closed():
                    loop.remove_reader(self.fd)

    def read(self) -> None:
        """Read what is there, without waiting, in the thread of an event loop."""
        if not self.poll():
            self.on_end()

    def _end(self) -> None:
        """The channel has ended."""
        if self._is_workers:
            os._exit(1)  # the monitor is gone, and so is this worker at any moment
        for arrive in list(self._asked.values()):
            arrive(None)

    def _wait_for(self, arrived: Callable[[], bool]) -> bool:
        """Read, or let another thread read, until `arrived()`; False at the end of the channel."""
        with self._news:
            while not arrived():
                if self._reading:
                    self._news.wait()
                elif not self._read():
                    return False
            return True

    def _read(self, flags: int = 0) -> bool:
        self._reading = True
        self._news.release()
        try:
            data = self.sock.recv(262144, flags)
        finally:
            self._news.acquire()
            self._reading = False
            self._news.notify_all()
        for frame in self._decoder.feed(data):
            if frame.kind == Kind.ANSWER:
                arrive = self._asked.pop(frame.id, None)
                if arrive is not None:
                    arrive(frame)
            else:
                self._heard.append(frame)
        if self._heard and self.on_heard is not None:
            self.on_heard()
        return bool(data)


def _answered(frame: Frame | None) -> Frame:
    """The answer. Raises the error that it may be."""
    if frame is None:
        raise StoreError("the pool of this process has ended: nothing can be asked of it any more")
    if "error" in frame.head:
        raise error_of(frame.head["error"])
    return frame
