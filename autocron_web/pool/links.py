"""The monitor's side of the links: which app processes live, what they ask, and who waits for a job."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ..errors import StoreError
from ..jobs import Job
from ..process import open_pidfd, start_time
from .loop import Loop
from .output import Printer
from .wire import Channel, Frame, Kind, WireError, peer_of, short_address

BACKLOG = 128
MOST_LINKS = 1000
LARGEST_BACKLOG = 1024 * 1024  # bytes that an app process may leave unread before its link is cut
POLL = 1.0  # seconds between looks at a process of which there is no pidfd


class Peer:
    """One connection, and the app process behind it once it has said hello."""

    def __init__(self, channel: Channel, pid: int) -> None:
        self.channel = channel
        self.pid = pid
        self.hello: dict[str, Any] | None = None
        self.pidfd: int | None = None
        self.born: int | None = None
        self.streams: tuple[int, int] | None = None
        self.connected = True
        self.send: Callable[[Frame], None] = lambda frame: None
        self.watched: set[str] = set()


class Links:
    """Counts the app processes. One counts until it ends or leaves, not until its connection breaks."""

    def __init__(self, loop: Loop, path: str, printer: Printer) -> None:
        self._loop = loop
        self._path = path
        self._printer = printer
        self._listener: socket.socket | None = None
        # An app process needs four descriptors; one more than there are would make `accept` fail for ever.
        self._most = min(MOST_LINKS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 5)
        self._open: set[Peer] = set()  # connections
        self._apps: list[Peer] = []  # those that count, in the order of their hellos
        self._watchers: dict[str, set[Peer]] = {}
        self.on_hello: Callable[[dict[str, Any]], str | None] = lambda hello: (
            None
        )  # may refuse with a sentence
        self.on_wake: Callable[[int], None] = lambda due: None
        self.on_cancel: Callable[[str], None] = lambda job_id: None
        self.on_modules: Callable[[list[str]], None] = lambda modules: None
        self.on_count: Callable[[int, bool], None] = lambda count, stop: None
        self.on_info: Callable[[], dict[str, Any]] = dict
        self.on_end: Callable[[], None] = lambda: None
        self.on_ask: Callable[[Peer, Frame], None] = lambda peer, frame: None
        self.on_settings: Callable[[], None] = lambda: None

    def listen(self) -> None:
        """Take connections at the socket, which only this user can reach."""
        listener = socket.socket(socket.AF_UNIX)
        with short_address(self._path) as address:
            self._remove_stale()
            before = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        self._inode = os.stat(self._path).st_ino
        self._watch_listener()

    def _watch_listener(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            self._loop.watch(self._listener, self._accept)

    def _remove_stale(self) -> None:
        """Remove the socket of a monitor that was killed: the lock is ours, so it is nobody's."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise StoreError(
                f"{self._path} is in the way: a socket has to be there, and it is no socket of this user's."
                " Move it away"
            )
        os.unlink(self._path)

    @property
    def count(self) -> int:
        return len(self._apps)

    @property
    def apps(self) -> list[Peer]:
        """The app processes that count, in the order of their hellos."""
        return list(self._apps)

    def poke(self, jobs: Iterable[Job]) -> None:
        """These jobs have changed in the store: tell those who wait for them."""
        for job in jobs:
            for peer in self._watchers.get(job.id, ()):
                self._send(peer, Frame(Kind.POKE, 0, {"id": job.id}))

    def close(self, again: float | None) -> None:
        """Say goodbye: after `again` seconds an app process that lives may start another monitor."""
        if self._listener is not None:
            self._loop.unwatch(self._listener)
            self._listener.close()
            with suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == self._inode:  # not that of a later monitor
                    os.unlink(self._path)
        for peer in list(self._open):
            self._send(peer, Frame(Kind.BYE, 0, {"again": again}))
            self._disconnect(peer)

    # -- connections -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # It would be tried again at once, as the connection is still there.
                self._loop.unwatch(self._listener)
                self._loop.after(POLL, self._watch_listener)
            return
        pid, uid = peer_of(sock)
        if uid not in (os.geteuid(), 0) or len(self._open) >= self._most:
            sock.close()
            return
        peer = Peer(Channel(sock, descriptors=3), pid)
        peer.send = lambda frame: self._send(peer, frame)
        self._open.add(peer)
        self._loop.watch(sock, lambda: self._hear(peer))

    def _hear(self, peer: Peer) -> None:
        try:
            frames = peer.channel.receive()
            if frames is None:
                self._disconnect(peer)
                return
            for frame in frames:
                self._obey(peer, frame)
                if not peer.connected:
                    return
        except Exception as error:  # whatever comes from outside must not end the monitor
            self._printer.say(
                f"a link was cut: it does not speak the protocol ({type(error).__name__}: {error})"
            )
            self._disconnect(peer)

    def _obey(self, peer: Peer, frame: Frame) -> None:
        head = frame.head
        if frame.kind == Kind.WAKE:
            self.on_wake(int(head.get("due", 0)))
        elif frame.kind == Kind.WATCH:
            self._watchers.setdefault(head["id"], set()).add(peer)
            peer.watched.add(head["id"])
            # It may have finished while the request was on its way: let it look once more.
            self._send(peer, Frame(Kind.POKE, 0, {"id": head["id"]}))
        elif frame.kind == Kind.CANCEL:
            self.on_cancel(head["id"])
        elif frame.kind == Kind.MODULES:
            self.on_modules(list(head["modules"]))
        elif frame.kind == Kind.HELLO:
            self._hello(peer, head)
        elif frame.kind in (Kind.LEAVE, Kind.STOP):
            last = self._apps == [peer]
            if frame.kind == Kind.STOP:
                self._send(peer, Frame(Kind.BYE, 0, {"last": last}))
            self._forget_app(peer, stop=frame.kind == Kind.STOP)
        else:
            self._obey_anybody(peer, frame)

    def _obey_anybody(self, peer: Peer, frame: Frame) -> None:
        """What needs no hello: the status and the command line are no app processes."""
        if frame.kind == Kind.INFO:
            self._send(peer, Frame(Kind.INFO, frame.id, self.on_info()))
        elif frame.kind == Kind.END:
            self.on_end()
        elif frame.kind == Kind.SETTINGS:
            self.on_settings()
        elif frame.kind == Kind.ASK:  # of a process that a task has forked
            self.on_ask(peer, frame)
        else:
            raise WireError(f"frame kind {frame.kind}")

    def _send(self, peer: Peer, frame: Frame) -> None:
        if not peer.connected:
            return
        try:
            peer.channel.send(frame)
        except OSError:
            self._disconnect(peer)
            return
        if peer.channel.backlog > LARGEST_BACKLOG + len(frame.blob):
            self._disconnect(peer)
        elif peer.channel.backlog:
            self._loop.watch(peer.channel, lambda: self._hear(peer), lambda: self._flush(peer))

    def _flush(self, peer: Peer) -> None:
        try:
            peer.channel.flush()
        except OSError:
            self._disconnect(peer)
            return
        if not peer.channel.backlog:
            self._loop.watch(peer.channel, lambda: self._hear(peer))

    def _disconnect(self, peer: Peer) -> None:
        """The connection is gone; a process that lives still counts (a `closerange` ends links too)."""
        if not peer.connected:
            return
        peer.connected = False
        self._open.discard(peer)
        for job_id in peer.watched:
            watchers = self._watchers[job_id]
            watchers.discard(peer)
            if not watchers:
                del self._watchers[job_id]
        self._loop.unwatch(peer.channel)
        peer.channel.close()
        if peer.pidfd is None and peer.born is None:
            self._forget_app(peer)  # neither pidfd nor /proc: then the connection is all that tells

    # -- app processes ---------------------------------------------------------------------------------

    def _hello(self, peer: Peer, hello: dict[str, Any]) -> None:
        if peer.hello is not None:
            raise WireError("a second hello")
        if len(peer.channel.descriptors) < 2:
            raise WireError("a hello without its descriptors")  # or there was no room for them here
        descriptors, peer.channel.descriptors = peer.channel.descriptors, []
        self._printer.set_targets((descriptors[0], descriptors[1]))  # who reads what is said of this hello
        refusal = self.on_hello(hello)
        if refusal is not None:
            self._printer.set_targets(self._apps[-1].streams if self._apps else None)
            for fd in descriptors:
                os.close(fd)
            self._send(peer, Frame(Kind.REFUSED, 0, {"reason": refusal}))
            return
        peer.hello = hello
        peer.streams = (descriptors[0], descriptors[1])
        peer.pidfd = descriptors[2] if len(descriptors) > 2 else open_pidfd(peer.pid)
        peer.born = start_time(peer.pid)
        for other in [app for app in self._apps if (app.pid, app.born) == (peer.pid, peer.born)]:
            self._release(other)  # the same process has linked anew
        self._apps.append(peer)
        if peer.pidfd is not None:
            self._loop.watch(peer.pidfd, lambda: self._forget_app(peer))
        else:
            self._loop.after(POLL, lambda: self._look_at(peer))
        self._printer.set_targets(peer.streams)
        self._send(peer, Frame(Kind.WELCOME, 0, {"pid": os.getpid()}))
        self.on_count(self.count, False)

    def _look_at(self, peer: Peer) -> None:
        if peer not in self._apps:
            return
        if start_time(peer.pid) != peer.born:
            self._forget_app(peer)
        else:
            self._loop.after(POLL, lambda: self._look_at(peer))

    def _forget_app(self, peer: Peer, *, stop: bool = False) -> None:
        """The process has ended or left."""
        if peer not in self._apps:
            return
        self._release(peer)
        self.on_count(self.count, stop)

    def _release(self, peer: Peer) -> None:
        self._apps.remove(peer)
        if peer.pidfd is not None:
            self._loop.unwatch(peer.pidfd)
            os.close(peer.pidfd)
            peer.pidfd = None
        newest = self._apps[-1].streams if self._apps else None
        self._printer.set_targets(newest)
        assert peer.streams is not None
        for fd in peer.streams:
            os.close(fd)
