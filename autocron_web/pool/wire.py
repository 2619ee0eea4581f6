"""Frames: what travels between app processes, monitor and workers over Unix sockets.

A frame is a fixed header, a JSON object (the head) and raw bytes (the blob: payloads and results, which
are never decoded on the way). Nothing is unpickled, and a frame beyond the limit ends its connection.
"""

from __future__ import annotations

import builtins
import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from .. import errors
from ..jobs import Job

PROTOCOL = 2
HEADER = struct.Struct(">BBIII")  # protocol, kind, id, length of head, length of blob
LIMIT = 8 * 1024 * 1024  # an environment of 2 MiB, or a job with 1 MiB in and 1 MiB out, fits
PIECE = 256 * 1024  # larger fan-outs are sent as several frames


class Kind:
    """What a frame says. The comment names who sends it to whom."""

    HELLO = 1  # app → monitor: who I am and how to load me; carries descriptors
    WELCOME = 2  # monitor → app: you count
    REFUSED = 3  # monitor → app: why you do not count
    WAKE = 4  # app → monitor: jobs were stored, the first is due then, or now
    WATCH = 5  # app → monitor: poke me when this job may have finished; nobody waits for those any more
    POKE = 6  # monitor → app: look at this job in the store
    CANCEL = 7  # app → monitor: end this running job; monitor → worker: that is one of several in it
    MODULES = 8  # app → monitor: more modules have registered tasks
    LEAVE = 9  # app → monitor: I no longer count
    STOP = 10  # app → monitor: I leave, and wait for the end if I was the last one
    BYE = 11  # monitor → app: I end now; whether and when to start another

    # From anybody who may use the store, without a hello: who asks is no app process.
    INFO = 12  # → monitor: what about the pool? The answer has the same kind
    END = 13  # → monitor: end the pool for all, until the next `start()`
    SETTINGS = 14  # → monitor: settings in the store have changed

    LOAD = 20  # monitor → worker: load the app
    READY = 21  # worker → monitor: loaded (its tasks and crons), or why not
    RUN = 22  # monitor → worker: run this job
    RESULT = 23  # worker → monitor: how it ended
    ASK = 24  # worker → monitor: a request of the running task
    ANSWER = 25  # monitor → worker: the answer to it
    FREE = 26  # worker → monitor: what followed the last result is done too
    FORK = 27  # monitor → template: fork a worker, whose descriptors come with this; READY tells its pid


class Frame(NamedTuple):
    kind: int
    id: int = 0
    head: dict[str, Any] = {}
    blob: bytes = b""


class WireError(Exception):
    """The other side does not speak this protocol, or a frame is too large."""


# `json.dumps` with separators makes an encoder for every call, which costs more than its work here.
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def encode(frame: Frame) -> bytes:
    head = _to_json(frame.head).encode() if frame.head else b""
    if len(head) + len(frame.blob) > LIMIT:
        raise WireError(f"a frame of {len(head) + len(frame.blob)} bytes is over the limit of {LIMIT}")
    return HEADER.pack(PROTOCOL, frame.kind, frame.id, len(head), len(frame.blob)) + head + frame.blob


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with this data."""
        self._buffer += data
        buffer, start = self._buffer, 0
        frames = []
        while len(buffer) - start >= HEADER.size:
            protocol, kind, number, head_size, blob_size = HEADER.unpack_from(buffer, start)
            if protocol != PROTOCOL:
                raise WireError(f"frame protocol {protocol} instead of {PROTOCOL}")
            if head_size + blob_size > LIMIT:
                raise WireError(f"a frame of {head_size + blob_size} bytes is over the limit of {LIMIT}")
            middle = start + HEADER.size + head_size
            end = middle + blob_size
            if len(buffer) < end:
                break
            head = _head(buffer[start + HEADER.size : middle])
            frames.append(Frame(kind, number, head, bytes(buffer[middle:end])))
            start = end
        del buffer[:start]
        return frames


def _head(data: bytearray) -> dict[str, Any]:
    if not data:
        return {}
    try:
        head = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the head of a frame is no JSON: {error}") from None
    if not isinstance(head, dict):
        raise WireError("the head of a frame is no object")
    return head


class Channel:
    """The monitor's end of a connection: it never blocks, neither on reading nor on writing."""

    def __init__(self, sock: socket.socket, *, descriptors: int = 0) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.descriptors: list[int] = []  # received and not yet taken
        self._most = descriptors
        self._decoder = Decoder()
        self._out = bytearray()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that the other side has not taken yet."""
        return len(self._out)

    def send(self, frame: Frame) -> None:
        """Send, or keep what does not fit; raises OSError if the connection is broken."""
        self.add(frame)
        self.flush()

    def add(self, frame: Frame) -> None:
        """Send it with the next one, or with the next `flush`."""
        self._out += encode(frame)

    def flush(self) -> None:
        try:
            while self._out:
                del self._out[: self.sock.send(self._out)]
        except BlockingIOError:
            pass

    def receive(self) -> list[Frame] | None:
        """The frames that have arrived, or None at the end of the connection."""
        try:
            if self._most:
                data, received, _, _ = socket.recv_fds(self.sock, 65536, self._most)
                self.descriptors += received
            else:
                data = self.sock.recv(262144)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._decoder.feed(data) if data else None

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()
        self.sock.close()


@contextmanager
def short_address(path: str) -> Iterator[str]:
    """A path by which a socket can be reached although its own is longer than 107 bytes (unix(7))."""
    if len(os.fsencode(path)) < 108:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """The pid and the user at the other end of a connection (unix(7), SO_PEERCRED)."""
    if hasattr(socket, "SO_PEERCRED"):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", data)
        return pid, uid
    return 0, os.geteuid()  # macOS: the folder's and the socket's modes have let nobody else through


def pack_jobs(jobs: Sequence[Job]) -> tuple[list[Any], bytes]:
    """Jobs as a JSON list and a blob, for a frame's head and blob."""
    rows = []
    blobs = []
    for job in jobs:
        result = job.result
        rows.append([*job._replace(payload=len(job.payload), result=None if result is None else len(result))])  # type: ignore[arg-type]
        blobs.append(job.payload)
        blobs.append(result or b"")
    return rows, b"".join(blobs)


_PAYLOAD, _RESULT = Job._fields.index("payload"), Job._fields.index("result")


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= LIMIT


def unpack_jobs(rows: list[Any], blob: bytes) -> list[Job]:
    """The reverse of `pack_jobs`. Raises `WireError`."""
    jobs, start = [], 0
    for row in rows:
        if not isinstance(row, list) or len(row) != len(Job._fields):
            raise WireError("a job is no list of its fields")
        size, result_size = row[_PAYLOAD], row[_RESULT]
        if not _is_size(size) or not (result_size is None or _is_size(result_size)):
            raise WireError("a job whose payload or result has no size")
        middle = start + size
        row[_PAYLOAD] = blob[start:middle]
        start = middle
        if result_size is not None:
            start = middle + result_size
            row[_RESULT] = blob[middle:start]
        jobs.append(Job(*row))
    return jobs


def cost_of(job: Job) -> int:
    """About how many bytes the job takes in a frame."""
    return 600 + sum(map(len, filter(None, (job.payload, job.result, job.error, job.output))))


def pieces(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """The jobs in runs that fit a frame well."""
    start = size = 0
    for index, job in enumerate(jobs):
        cost = cost_of(job)
        if size and size + cost > PIECE:
            yield jobs[start:index]
            start, size = index, 0
        size += cost
    if start < len(jobs):
        yield jobs[start:]


# -- errors in an answer ---------------------------------------------------------------------------------

LONGEST_ERROR = 10_000  # characters


def describe(error: Exception) -> list[Any]:
    """The exception for a frame: its class, what it was made of if that can be told, and its text."""
    try:
        arguments = list(error.args) if len(_to_json(error.args)) <= LONGEST_ERROR else None
    except (TypeError, ValueError):
        arguments = None
    return [type(error).__name__, arguments, str(error)[:LONGEST_ERROR]]


def error_of(described: list[Any]) -> Exception:
    """The same exception again, if it is one of Python's or of this package's."""
    name, arguments, text = described
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(*(arguments or [text]))
        except TypeError:  # it is made of something else
            pass
    return errors.StoreError(f"{name}: {text}")
