"""One process's connection to the monitor: made, greeted, read and written. When that happens is `link`'s."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from typing import Any

from .launch import connect
from .pool.wire import Decoder, Frame, Kind, WireError, encode, peer_of
from .process import identity, is_standard, open_pidfd, readable

LONGEST_SEND = 86400.0  # seconds: what there is of time in a call of the system ends some time
PATIENCE = 2.0  # seconds that a monitor which is stopped or very busy is given to take bytes


class Connection:
    """Belongs to the process that made it, and is left alone in that one's forks.

    A task or a library may close its descriptor, and another file may get the number. So the
    descriptor is compared with what it was before each use.
    """

    def __init__(self, path: str) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()  # guards `sock` and writing
        self.sock: socket.socket | None = None
        self.heard: deque[Frame] = deque()  # frames that arrived together with an awaited one
        self.greeted = False  # hello was said
        self.refused = False  # it was, and the monitor is ending: the connection tells when it has
        self.monitor: int | None = None  # its pid
        self.again: float | None = 0.0  # seconds before another monitor may be started; None: never
        self._path = path
        self._identity: tuple[int, int] | None = None  # of the socket
        self._decoder = Decoder()

    def open(self) -> bool:
        """Connect, unless that is done. Whether there is a connection."""
        if self.sock is not None:
            return True
        try:
            sock = connect(self._path, PATIENCE)
        except OSError:
            return False
        self.sock, self._decoder, self.heard = sock, Decoder(), deque()
        self._identity = identity(sock.fileno())
        return True

    @property
    def is_mine(self) -> bool:
        """Whether nobody has closed the descriptor."""
        sock = self.sock  # another thread may close it meanwhile
        return sock is not None and identity(sock.fileno()) == self._identity

    @property
    def peer(self) -> int:
        """The monitor's pid as this process sees it; 0 where it cannot."""
        sock = self.sock
        try:
            return 0 if sock is None else peer_of(sock)[0]
        except OSError:  # another thread has closed it
            return 0

    def close(self) -> None:
        """No more connection; `open` makes another."""
        with self.lock:
            if self.sock is not None:
                if self.is_mine:
                    self.sock.close()
                else:
                    self.sock.detach()
            self.sock, self.greeted, self.refused = None, False, False

    def greet(self, hello: dict[str, Any], deadline: float) -> bool:
        """Say hello with this process's pidfd and output, and wait for the welcome; whether it came."""
        assert self.sock is not None
        null = os.open(os.devnull, os.O_WRONLY)
        pidfd = open_pidfd(self.pid)
        try:
            streams = [fd if is_standard(fd) else null for fd in (1, 2)]
            descriptors = [*streams, pidfd] if pidfd is not None else streams
            data = encode(Frame(Kind.HELLO, 0, hello))
            self.sock.settimeout(PATIENCE)
            sent = socket.send_fds(self.sock, [data], descriptors)
            self.sock.sendall(data[sent:])
            self.sock.settimeout(None)
            frame = self.next_frame(deadline)
            # No answer: a monitor that is stopped or very busy. It will read the hello later.
            if frame is None or frame.kind == Kind.WELCOME:
                self.greeted, self.again = True, 0.0
                self.monitor = frame.head["pid"] if frame else None
                return True
            self.refused = frame.kind == Kind.REFUSED
            while self.refused and frame is not None:  # until its end, which is an EOFError
                frame = self.next_frame(deadline)
            if self.refused:
                return False
        except (OSError, WireError, EOFError):
            pass
        finally:
            os.close(null)
            if pidfd is not None:
                os.close(pidfd)
        self.close()
        return False

    def send(self, frame: Frame, timeout: float | None) -> None:
        """Send a frame, in at most so many seconds. Raises OSError."""
        assert self.sock is not None
        self.sock.settimeout(None if timeout is None else min(timeout, LONGEST_SEND))
        self.sock.sendall(encode(frame))

    def send_at_once(self, frame: Frame) -> bool:
        """Send a small frame; False if it does not fit, because the monitor (stopped?) has much to read."""
        assert self.sock is not None
        data = encode(frame)
        try:
            sent = self.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if sent < len(data):
            raise OSError("half a frame was sent")
        return True

    def next_frame(self, deadline: float | None) -> Frame | None:
        """The next frame, or None at the deadline; EOFError at the end of the connection."""
        assert self.sock is not None
        while not self.heard:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not readable([self.sock.fileno()], left):
                return None
            if not self.receive():
                raise EOFError
        return self.heard.popleft()

    def receive(self) -> bool:
        """Read what is there into `heard`; False at the end. Raises OSError and `WireError`."""
        sock = self.sock
        data = sock.recv(65536) if sock is not None else b""
        self.heard.extend(self._decoder.feed(data))
        return bool(data)
