"""Short jobs that lie ready for a worker: it takes the next one by itself, without waking the monitor.

For a job of some microseconds, two processes that wake each other up are most of the cost. So such jobs lie
in the buffer of a datagram socket, and what became of them comes back the same way, read by the monitor every
few milliseconds.

The kernel gives each message to one reader. The monitor keeps the worker's end, too: what it reads back from
there has not been begun, and never will be, whatever has become of the worker. So it is known at any moment,
also after a kill -9, which job a worker had in hand.
"""

from __future__ import annotations

import select
import socket

from ..process import identity
from .wire import Frame, decode, encode

MOST = 100  # jobs on one shelf
LARGEST = (
    2048  # bytes of a message: as many as there may be fit the usual buffer of a socket, if they are short
)


class Shelf:
    """The monitor's side. Nothing here blocks."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    @property
    def workers_end(self) -> int:
        """The descriptor that the worker inherits."""
        return self._theirs.fileno()

    def put(self, frame: Frame) -> bool:
        """Lay a job down; False if it is too large, or has no room."""
        data = encode(frame)
        if len(data) > LARGEST:
            return False
        try:
            self._ours.send(data)
        except OSError:  # the buffer is full
            return False
        return True

    def results(self) -> list[Frame]:
        """What has become of jobs from here, in their order. Raises `WireError`."""
        return _read_all(self._ours)

    def clear(self) -> list[Frame]:
        """Take back the jobs that the worker has not taken, in their order."""
        return _read_all(self._theirs)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class WorkersShelf:
    """The worker's side."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._fd, self._identity = fd, identity(fd)

    def take(self) -> Frame | None:
        """The next job, or None."""
        if identity(self._fd) != self._identity:
            return None  # a task has closed it: the monitor takes back what lies here
        try:
            return decode(self._socket.recv(LARGEST))
        except BlockingIOError:
            return None

    def exchange(self, result: Frame) -> Frame | None:
        """Lay down what has become of the last job, and take the next one.

        None if there is no other, or if the result is too large: then it is told on the line.
        """
        data = encode(result)
        following = self.take() if len(data) <= LARGEST else None
        if following is not None:
            self._send(data)
        return following

    def _send(self, data: bytes) -> None:
        while True:
            try:
                self._socket.send(data)
                return
            except BlockingIOError:  # the monitor reads in a moment
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                poll.poll()


def _read_all(sock: socket.socket) -> list[Frame]:
    frames = []
    try:
        while True:
            frames.append(decode(sock.recv(LARGEST)))
    except BlockingIOError:
        return frames
