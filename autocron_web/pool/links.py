"""The monitor's side of the links: which app processes live, what they ask, and who waits for a job."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ..errors import StoreError
from ..jobs import FINISHED, Job
from ..process import open_pidfd, process_of, start_time
from .failures import is_worth_telling
from .loop import Loop
from .output import Printer
from .room import most_links
from .shapes import checked
from .wire import Channel, Frame, Kind, WireError, peer_of, short_address

BACKLOG = 128
MOST_LINKS = 1000
LARGEST_BACKLOG = 1024 * 1024  # bytes that an app process may leave unread before its link is cut
POLL = 1.0  # seconds between looks at a process of which there is no pidfd


class Peer:
    """One connection, and the app process behind it once it has said hello."""

    def __init__(self, channel: Channel, pid: int) -> None:
        self.channel = channel
        self.pid = pid  # 0 where it is in a container that this process cannot look into
        self.hello: dict[str, Any] | None = None
        self.pidfd: int | None = None
        self.born: int | None = None
        self.streams: tuple[int, int] | None = None
        self.connected = True
        self.send: Callable[[Frame], None] = lambda frame: None
        self.watched: set[str] = set()

    @property
    def process(self) -> object:
        """What tells this process from all others: where the system does not say, each connection is one."""
        if self.born is not None:
            return self.pid, self.born
        return self if self.pidfd is None else process_of(self.pidfd) or self


class Links:
    """Counts the app processes. One counts until it ends or leaves, not until its connection breaks."""

    def __init__(self, loop: Loop, path: str, printer: Printer) -> None:
        self._loop = loop
        self._path = path
        self._printer = printer
        self._listener: socket.socket | None = None
        # With one more than there are descriptors, `accept` would fail for ever.
        self._most = min(MOST_LINKS, most_links())
        self._open: set[Peer] = set()  # connections
        self._apps: list[Peer] = []  # those that count, in the order of their hellos
        self._cut = 0  # connections that did not speak the protocol
        self._watchers: dict[str, set[Peer]] = {}
        self.on_hello: Callable[[dict[str, Any]], str | None] = lambda hello: (
            None
        )  # may refuse with a sentence
        self.on_joined: Callable[[Peer, dict[str, Any]], None] = lambda peer, hello: None  # it counts
        self.on_gone: Callable[[Peer], None] = lambda peer: None
        self.on_wake: Callable[[int], None] = lambda due: None
        self.on_cancel: Callable[[str], None] = lambda job_id: None
        self.on_modules: Callable[[Peer, list[str]], None] = lambda peer, modules: None
        self.on_count: Callable[[int, bool], None] = lambda count, stop: None
        self.on_info: Callable[[], dict[str, Any]] = dict
        self.on_end: Callable[[], None] = lambda: None
        self.on_ask: Callable[[Peer, Frame], None] = lambda peer, frame: None
        self.on_settings: Callable[[], None] = lambda: None

    def listen(self) -> None:
        """Take connections at the socket, which only this user can reach."""
        self._remove_stale()
        self._bind()

    def _bind(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        with short_address(self._path) as address:
            before = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        found = os.stat(self._path)
        self._identity = found.st_dev, found.st_ino
        self._watch_listener()

    def is_reachable(self) -> bool:
        """Whether something is where the socket was made. From any thread."""
        return self._listener is None or os.path.lexists(self._path)

    def listen_anew(self) -> None:
        """Somebody has deleted the socket, so that no newcomer finds this monitor: make another one.

        What others have put there is left alone: if it is a later monitor's, the lock file has gone too, and
        the epochs decide.
        """
        if self._listener is None or self.is_reachable():
            return
        listener = self._listener
        try:
            self._bind()
        except OSError:  # the folder has gone, or somebody was faster
            return
        self._loop.unwatch(listener)
        listener.close()

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
            for peer in list(self._watchers.get(job.id, ())):
                self._send(peer, Frame(Kind.POKE, 0, {"id": job.id}))
                if job.state in FINISHED:
                    self._unwatch(peer, job.id)

    def _watch(self, peer: Peer, head: dict[str, Any]) -> None:
        """The process waits for a job, and not any more for others."""
        for job_id in head.get("over", ()):
            self._unwatch(peer, job_id)
        if "id" in head:
            self._watchers.setdefault(head["id"], set()).add(peer)
            peer.watched.add(head["id"])
            # It may have finished while the request was on its way: let it look once more.
            self._send(peer, Frame(Kind.POKE, 0, {"id": head["id"]}))

    def _unwatch(self, peer: Peer, job_id: str) -> None:
        peer.watched.discard(job_id)
        watchers = self._watchers.get(job_id)
        if watchers is not None:
            watchers.discard(peer)
            if not watchers:
                del self._watchers[job_id]

    def close(self, again: float | None) -> None:
        """Say goodbye: after `again` seconds an app process that lives may start another monitor."""
        if self._listener is not None:
            self._loop.unwatch(self._listener)
            self._listener.close()
            self._listener = None
            with suppress(FileNotFoundError):
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) == self._identity:  # not that of a later monitor
                    os.unlink(self._path)
        for peer in list(self._open):
            self._send(peer, Frame(Kind.BYE, 0, {"again": again}))
            self._disconnect(peer)

    # -- connections -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # It would be tried again at once, as the connection is still there.
                self._loop.unwatch(self._listener)
                self._loop.after(POLL, self._watch_listener)
            return
        self._loop.guard(lambda: self._greet(sock), sock.close)

    def _greet(self, sock: socket.socket) -> None:
        pid, uid = peer_of(sock)
        if uid not in (os.geteuid(), 0) or len(self._open) >= self._most:
            sock.close()
            return
        peer = Peer(Channel(sock, descriptors=3), pid)
        peer.send = lambda frame: self._send(peer, frame)
        self._open.add(peer)
        self._loop.watch(sock, lambda: self._hear(peer))

    def _hear(self, peer: Peer) -> None:
        self._loop.guard(lambda: self._hear_frames(peer), lambda: self._disconnect(peer))

    def _hear_frames(self, peer: Peer) -> None:
        try:
            frames = peer.channel.receive()
            if frames is None:
                self._disconnect(peer)
                return
            for frame in frames:
                self._obey(peer, checked(frame))
                if not peer.connected:
                    return
        except WireError as error:
            self._cut += 1
            if is_worth_telling(self._cut):
                times = f"; so were {self._cut - 1} before" if self._cut > 1 else ""
                self._printer.say(f"a link was cut: it does not speak the protocol ({error}){times}")
            self._disconnect(peer)

    def _obey(self, peer: Peer, frame: Frame) -> None:
        head = frame.head
        if frame.kind == Kind.WAKE:
            self.on_wake(head.get("due", 0))
        elif frame.kind == Kind.WATCH:
            self._watch(peer, head)
        elif frame.kind == Kind.CANCEL:
            self.on_cancel(head["id"])
        elif frame.kind == Kind.MODULES:
            self.on_modules(peer, list(head["modules"]))
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
        for job_id in list(peer.watched):
            self._unwatch(peer, job_id)
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
        descriptors = peer.channel.descriptors
        self._printer.set_targets((descriptors[0], descriptors[1]))  # for what there is to say of it
        try:
            refusal = self.on_hello(hello)
        finally:
            self._show_to_newest()
        peer.channel.descriptors = []
        if refusal is not None:
            for fd in descriptors:
                os.close(fd)
            self._send(peer, Frame(Kind.REFUSED, 0, {"reason": refusal}))
            return
        peer.hello = hello
        peer.streams = (descriptors[0], descriptors[1])
        peer.pidfd = descriptors[2] if len(descriptors) > 2 else open_pidfd(peer.pid)
        peer.born = start_time(peer.pid)
        same = [app for app in self._apps if app.process == peer.process]
        self._apps.append(peer)
        if peer.pidfd is not None:
            self._loop.watch(peer.pidfd, lambda: self._forget_app(peer))
        else:
            self._loop.after(POLL, lambda: self._look_at(peer))
        self._show_to_newest()
        self._send(peer, Frame(Kind.WELCOME, 0, {"pid": os.getpid()}))
        self.on_joined(peer, hello)
        for other in same:
            self._release(other)  # the same process has linked anew
        self.on_count(self.count, False)

    def _show_to_newest(self) -> None:
        """What workers print is for the newest app process."""
        self._printer.set_targets(self._apps[-1].streams if self._apps else None)

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
        self._show_to_newest()
        assert peer.streams is not None
        for fd in peer.streams:
            os.close(fd)
        self.on_gone(peer)
