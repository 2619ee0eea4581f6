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
import struct
from typing import NamedTuple

from ..jobs import Job
from ..process import identity
from .wire import Frame, Kind, WireError

MOST = 100  # jobs on one shelf
LARGEST = (
    2048  # bytes of a message: as many as there may be fit the usual buffer of a socket, if they are short
)

# These messages never leave a pool, and there are many of them: a fixed form takes a third of JSON's time.
# Created, attempt, last; the characters of id, task and queue, the bytes of these and the codec; then these.
_JOB = struct.Struct(">qq?4H")
_DONE = struct.Struct(">dHH")  # seconds; then the sizes of id and codec, then these, then the result


class Done(NamedTuple):
    """A job from the shelf whose function has returned, and of which there is nothing else to tell."""

    id: str
    codec: str
    seconds: float
    result: bytes


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

    def put(self, job: Job, last: bool) -> bool:
        """Lay a job down; False if it is too large, or has no room. last: no try follows this one."""
        sizes = len(job.id), len(job.task), len(job.queue)
        texts = f"{job.id}{job.task}{job.queue}{job.codec}".encode()
        if len(texts) + len(job.payload) > LARGEST - _JOB.size:
            return False
        head = _JOB.pack(job.created, job.attempt, last, *sizes, len(texts))
        try:
            self._ours.send(head + texts + job.payload)
        except OSError:  # the buffer is full
            return False
        return True

    def done(self) -> list[Done]:
        """The jobs from here that have ended, in their order. Raises `WireError`."""
        return [_done(message) for message in _read_all(self._ours)]

    def clear(self) -> list[str]:
        """Take back the jobs that the worker has not taken: their ids, in their order."""
        return [_job(message).head["id"] for message in _read_all(self._theirs)]

    def take_back_first(self) -> Frame | None:
        """The first of them, as the worker is told of it on the line; None if there is none."""
        try:
            return _job(self._theirs.recv(LARGEST))
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class WorkersShelf:
    """The worker's side."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._fd, self._identity = fd, identity(fd)

    def close(self) -> None:
        """It is that of the process from which this one was forked."""
        self._socket.close()

    def take(self) -> Frame | None:
        """The next job, as if it came on the line, or None."""
        if identity(self._fd) != self._identity:
            return None  # a task has closed it: the monitor takes back what lies here
        try:
            return _job(self._socket.recv(LARGEST))
        except BlockingIOError:
            return None

    def exchange(self, done: Done) -> Frame | None:
        """Lay down what has become of the last job, and take the next one.

        None if there is no other, or if the result is too large: then the line is the way to tell it.
        """
        if len(done.result) > LARGEST // 2:
            return None
        following = self.take()
        if following is not None:
            self._send(done)
        return following

    def _send(self, done: Done) -> None:
        job_id, codec = done.id.encode(), done.codec.encode()
        message = _DONE.pack(done.seconds, len(job_id), len(codec)) + job_id + codec + done.result
        while True:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:  # the monitor reads in a moment
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                poll.poll()


def _job(message: bytes) -> Frame:
    created, attempt, last, id_size, task_size, queue_size, size = _JOB.unpack_from(message)
    end = _JOB.size + size
    texts = message[_JOB.size : end].decode()
    task, queue = id_size + task_size, id_size + task_size + queue_size  # where each ends
    head = {
        "id": texts[:id_size], "task": texts[id_size:task], "queue": texts[task:queue],
        "codec": texts[queue:], "attempt": attempt, "created": created, "last": last, "shared": False,
    }  # fmt: skip
    return Frame(Kind.RUN, 0, head, message[end:])


def _done(message: bytes) -> Done:
    try:
        seconds, size, codec_size = _DONE.unpack_from(message)
        middle = _DONE.size + size
        end = middle + codec_size
        return Done(
            message[_DONE.size : middle].decode(), message[middle:end].decode(), seconds, message[end:]
        )
    except (struct.error, UnicodeDecodeError):  # a task has written to the socket
        raise WireError(f"a message of {len(message)} bytes on the shelf is none of a worker's") from None


def _read_all(sock: socket.socket) -> list[bytes]:
    messages = []
    try:
        while True:
            messages.append(sock.recv(LARGEST))
    except BlockingIOError:
        return messages
