"""One connection to the monitor: made, greeted, read and written. When that happens is `link`'s."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any

from .framelock import FrameLock
from .launch import connect
from .pool.wire import LIMIT, Decoder, Frame, Kind, encode, peer_of
from .process import identity, is_standard, open_pidfd, readable

PATIENCE = 2.0  # seconds that a monitor which is stopped or very busy is given to take bytes


class Connection:
    """Belongs to the process that made it, and is left alone in that one's forks.

    A task or a library may close its descriptor, and another file may get the number. So the
    descriptor is compared with what it was before each use.

    timeout: seconds that a monitor with too many callers is waited for; 0 for those who must not wait.
    Raises OSError where there is none to talk to.
    """

    def __init__(self, path: str, timeout: float) -> None:
        # Guards the descriptor. Nobody waits while holding it, so it can be taken anywhere. Reentrant, as the
        # handler of a signal may call a task just then.
        self._lock = FrameLock()
        self.heard: deque[Frame] = deque()  # frames that arrived together with an awaited one
        self.greeted = False  # hello was said
        self.refused = False  # it was, and the monitor is ending: the connection tells when it has
        self.monitor: int | None = None  # its pid
        self._decoder = Decoder()
        self._sock = connect(path, timeout)
        self._sock.setblocking(False)
        self._identity = identity(self._sock.fileno())

    @property
    def is_mine(self) -> bool:
        """Whether nobody has closed the descriptor."""
        return identity(self._sock.fileno()) == self._identity

    @property
    def is_linked(self) -> bool:
        """Whether a hello was answered: with a welcome, or by a monitor that ends and tells when it has."""
        return self.greeted or self.refused

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def peer(self) -> int:
        """The monitor's pid as this process sees it; 0 where it cannot."""
        try:
            return peer_of(self._sock)[0]
        except OSError:  # another thread has closed it
            return 0

    def close(self) -> None:
        """End the connection; whoever waits for it wakes up."""
        with self._lock:
            if self.is_mine:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
                self._sock.close()
            else:
                self._sock.detach()

    def greet(self, hello: dict[str, Any], deadline: float) -> None:
        """Say hello with this process's pidfd and output, and wait for the answer: see `is_linked`.

        For a connection that nobody else uses yet. Raises OSError, `WireError` or EOFError where it is of no
        use, ValueError for a hello that is too large.
        """
        data = encode(Frame(Kind.HELLO, 0, hello))
        if len(data) > LIMIT:
            raise ValueError(
                f"environment, paths and modules take {len(data):,} bytes, and {LIMIT:,} can be told"
            )
        null = os.open(os.devnull, os.O_WRONLY)
        pidfd = open_pidfd(os.getpid())
        try:
            streams = [fd if is_standard(fd) else null for fd in (1, 2)]
            descriptors = [*streams, pidfd] if pidfd is not None else streams
            self._sock.settimeout(PATIENCE)
            sent = socket.send_fds(self._sock, [data], descriptors)
            self._sock.sendall(data[sent:])
            self._sock.setblocking(False)  # with a timeout, MSG_DONTWAIT would wait all the same
        finally:
            os.close(null)
            if pidfd is not None:
                os.close(pidfd)
        frame = self.next_frame(deadline)
        # No answer: a monitor that is stopped or very busy. It will read the hello later.
        self.greeted = frame is None or frame.kind == Kind.WELCOME
        self.refused = not self.greeted
        if frame is None or frame.kind == Kind.WELCOME:
            self.monitor = frame.head["pid"] if frame else None
            return
        while self.next_frame(deadline) is not None:  # until its end, which is an EOFError
            pass

    def send(self, frame: Frame, timeout: float | None) -> None:
        """Send a frame, in at most so many seconds. Raises OSError."""
        self._sock.settimeout(timeout)
        self._sock.sendall(encode(frame))
        self._sock.setblocking(False)

    def send_at_once(self, frame: Frame) -> bool:
        """Send a small frame; False if it does not fit, because the monitor (stopped?) has much to read.

        Raises OSError where the connection is of no use any more.
        """
        data = encode(frame)
        with self._lock:
            return self._send_at_once(data)

    def _send_at_once(self, data: bytes) -> bool:
        if not self.is_mine:
            raise OSError("somebody has closed the descriptor")
        try:
            if self._sock.send(data, socket.MSG_DONTWAIT) < len(data):
                raise OSError("half a frame was sent")
        except BlockingIOError:
            return False
        except (
            BaseException
        ):  # also what interrupts a call: half a frame may have gone, which nothing may follow
            self.close()
            raise
        return True

    def next_frame(self, deadline: float | None) -> Frame | None:
        """The next frame, or None at the deadline; EOFError at the end of the connection."""
        while not self.heard:
            if not self.is_mine:
                raise EOFError
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not readable([self._sock.fileno()], left):
                return None
            if not self.receive():
                raise EOFError
        return self.heard.popleft()

    def receive(self) -> bool:
        """Read what is there into `heard`; False at the end. Raises OSError and `WireError`."""
        with self._lock:
            return self._receive()

    def _receive(self) -> bool:
        if not self.is_mine:
            return False
        try:
            data = self._sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self.heard.extend(self._decoder.feed(data))
        return bool(data)
