"""A monitor that a test plays, and a link of this process to it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autocron_web import link
from autocron_web.jobs import Job
from autocron_web.link import Link
from autocron_web.pool.wire import Decoder, Frame, Kind, WireError, encode

JOB = Job("0190-1", "shop.send", due=0, created=0)


class Monitor:
    """Takes connections, answers each hello with a welcome, and notes what else it is told."""

    def __init__(self, path: str) -> None:
        self.frames: list[Frame] = []
        self.errors: list[WireError] = []
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path + ".sock")
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            threading.Thread(target=self._hear, args=(sock,), daemon=True).start()

    def _hear(self, sock: socket.socket) -> None:
        decoder = Decoder()
        with sock:
            while True:
                try:
                    data, descriptors, _, _ = socket.recv_fds(sock, 65536, 3)
                except OSError:
                    return
                for fd in descriptors:
                    os.close(fd)
                if not data:
                    return
                try:
                    frames = decoder.feed(data)
                except WireError as error:
                    self.errors.append(error)
                    return
                for frame in frames:
                    self.frames.append(frame)
                    with suppress(OSError):  # who asked was interrupted
                        if frame.kind == Kind.HELLO:
                            sock.sendall(encode(Frame(Kind.WELCOME, 0, {"pid": os.getpid()})))
                        elif frame.kind == Kind.STOP:
                            sock.sendall(encode(Frame(Kind.BYE, 0, {"last": False, "again": None})))

    def heard(self, kind: int) -> list[dict[str, Any]]:
        return [frame.head for frame in self.frames if frame.kind == kind]

    def end(self, path: str) -> None:
        """As if it had been killed."""
        os.unlink(path + ".sock")
        for sock in (self._listener, *self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has been closed
            sock.close()


@pytest.fixture
def path(home: Path) -> str:
    (home / "fake.db").touch()
    return str(home / "fake.db")


@pytest.fixture
def monitor(path: str) -> Iterator[Monitor]:
    monitor = Monitor(path)
    yield monitor
    if os.path.exists(path + ".sock"):
        monitor.end(path)


Begun = list[int]  # the threads in which a monitor was to be started


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Starting a monitor fails, as there is no descriptor; which threads have tried it."""
    begun: Begun = []

    def start_monitor(path: str, options: dict[str, Any], deadline: float) -> bool:
        begun.append(threading.get_ident())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(link, "start_monitor", start_monitor)
    return begun


@pytest.fixture
def a_link(path: str) -> Iterator[Link]:
    a_link = Link(path, lambda: {"env": {"BIG": "x" * 300_000}}, serving=True, durability="full")
    yield a_link
    a_link.leave()
    thread = a_link._state.thread
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()
