"""The app process's link to the monitor: says that this process lives, wakes, watches, starts a monitor.

Nothing is lost without a link: calls write to the store themselves. What belongs to a process (the
connection, the thread, the locks) sits in one object that carries the owner's pid. After a fork the
child finds another pid, leaves the object alone for ever and makes its own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .connection import Connection
from .jobs import now
from .launch import reap, start_monitor, wait_for_end
from .pool.wire import Frame, Kind, WireError
from .process import identity, readable
from .serving import forks_in_c

ELECTION = 2.0  # seconds that `start()` waits at most for a pool that answers
TURN = 0.3  # seconds that a call waits at most for the thread that links this process anew
RETRY = 0.01  # seconds between looks for the monitor that won the election
BIRTH = 0.2  # seconds that one which has won is given until it takes connections
SOUND = 5.0  # seconds after which a monitor counts as one that works
MOST_OVER = 64  # jobs that nobody waits for any more, until the monitor is told of them
PAUSES = (0.0, 0.2, 1.0, 5.0, 30.0)  # seconds between tries of the link's thread


class _Own(Connection):
    """What belongs to one process and must not be used in its forks; the lock guards the thread too."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.thread: threading.Thread | None = None
        self.paused = False  # the thread, while the process forks
        self.watchers: dict[str, list[Callable[[], object]]] = {}
        self.over: deque[str] = deque()  # jobs that nobody waits for any more, which the monitor is to forget
        self.no_join_before = 0.0  # when a call may try again to get a pool after that has failed
        self.make_pipe()

    def make_pipe(self) -> None:
        """What tells the thread to end."""
        self.stop_out, self.stop_in = os.pipe()
        self.pipe = identity(self.stop_out)  # the same for both of its ends

    def take_over(self) -> list[str]:
        """What the next frame says of jobs that nobody waits for any more: it costs no frame of its own."""
        over: list[str] = []
        with suppress(IndexError):  # other threads take some, too
            while len(over) < MOST_OVER:
                over.append(self.over.popleft())
        return [job_id for job_id in over if job_id not in self.watchers]

    def has_pipe(self) -> bool:
        """Whether nobody has closed it."""
        return identity(self.stop_out) == self.pipe == identity(self.stop_in)


_abandoned: list[_Own] = []  # kept, so that nothing in a child closes what it shares with its parent
_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """One store's link of this process.

    path: the database. hello: makes the document that tells the monitor how to load the app.
    serving: whether this process counts; one that does not only wakes the monitor and watches jobs.
    """

    def __init__(
        self, path: str, hello: Callable[[], dict[str, Any]], *, serving: bool, durability: str
    ) -> None:
        self._path = path
        self._hello = hello
        self._options = {"durability": durability}
        self.serving = serving
        self._left = False
        self._state = _Own(self._path)
        _links.add(self)

    def _own(self) -> _Own:
        if self._state.pid != os.getpid():
            _abandoned.append(self._state)
            self._state = _Own(self._path)
        return self._state

    @property
    def connected(self) -> bool:
        """Whether the monitor can tell this process something."""
        own = self._own()
        return own.sock is not None

    # -- what an app process says ----------------------------------------------------------------------

    def join(self) -> bool:
        """Count as an app process: link to the monitor, or start one. Whether this call has started it."""
        own = self._own()
        self._left = False
        started = self._join(own, time.monotonic() + ELECTION)
        if not forks_in_c():  # its forks begin their threads with their first call
            self._start_thread(own)
        return started

    def wake(self, due: int) -> None:
        """Jobs were stored, the first due then. If that cannot be said, the monitor looks by itself."""
        self._say(Frame(Kind.WAKE, 0, {"due": due} if due > now() else {}))

    def cancel(self, job_id: str) -> bool:
        """End a running job. Whether it could be asked for."""
        return self._say(Frame(Kind.CANCEL, 0, {"id": job_id}), patient=True)

    def modules(self, names: list[str]) -> None:
        """More modules have registered tasks. Waits for a hello that is being said: it may lack them."""
        own = self._state
        if own.pid == os.getpid():
            with own.lock:
                if own.greeted:
                    self._say(Frame(Kind.MODULES, 0, {"modules": names}))

    @contextmanager
    def watch(self, job_id: str, callback: Callable[[], object] | None = None) -> Iterator[threading.Event]:
        """While inside, the event is set (and the callback called) whenever the job may have changed."""
        own = self._own()
        event = threading.Event()
        notify = callback or event.set
        own.watchers.setdefault(job_id, []).append(notify)
        try:
            if self._say(Frame(Kind.WATCH, 0, {"id": job_id, "over": own.take_over()})):
                self._start_thread(own)
            yield event
        finally:
            own.watchers[job_id].remove(notify)
            if not own.watchers[job_id]:
                del own.watchers[job_id]
                own.over.append(job_id)
                if len(own.over) >= MOST_OVER:
                    self._tell_over(own)

    @staticmethod
    def _tell_over(own: _Own) -> None:
        """Let the monitor forget jobs that nobody waits for. Never waits: an event loop may do this."""
        if own.pid != os.getpid() or not own.lock.acquire(blocking=False):
            return  # there will be another opportunity
        try:
            if own.sock is not None and own.is_mine:
                over = own.take_over()
                if not own.send_at_once(Frame(Kind.WATCH, 0, {"over": over})):
                    own.over.extend(over)
        except OSError:
            own.close()
        finally:
            own.lock.release()

    def leave(self) -> None:
        """Do not count any more; returns at once."""
        self._left = True
        own = self._state
        if own.pid != os.getpid():
            return
        with suppress(OSError):
            if own.sock is not None:
                own.send_at_once(Frame(Kind.LEAVE))
                own.sock.shutdown(socket.SHUT_RDWR)  # the thread wakes up, closes it and ends
        if own.thread is None or not own.thread.is_alive():
            own.close()

    def stop(self, timeout: float | None) -> bool:
        """Leave, and if no other app process is left wait for the pool's end. Whether that was in time."""
        own = self._own()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._left = True
        self._stop_thread(own)
        try:
            if own.sock is None or own.monitor is None:
                return True
            own.send(Frame(Kind.STOP), timeout)
            while True:
                frame = own.next_frame(deadline)
                if frame is None:
                    return False
                if frame.kind == Kind.BYE:
                    return not frame.head.get("last", True) or wait_for_end(own.monitor, deadline)
        except (OSError, WireError, EOFError):  # it is ending already
            return own.monitor is None or wait_for_end(own.monitor, deadline)
        finally:
            monitor = own.peer
            own.close()
            reap(monitor)

    def _say(self, frame: Frame, *, patient: bool = False) -> bool:
        """Send a frame. While another thread links this process anew, only a patient caller waits."""
        own = self._own()
        # Where a server runs threads only during requests (uWSGI before 2.0.27), waiting lets ours go on.
        if not own.lock.acquire(timeout=-1 if patient else TURN):
            return False
        try:
            for _ in range(2):  # a connection that has broken since is made anew once
                if own.sock is None and not self._connect_again(own):
                    return False
                try:
                    if own.is_mine:
                        return own.send_at_once(frame)
                except OSError:
                    pass
                own.close()
            return False
        finally:
            own.lock.release()

    def _connect_again(self, own: _Own) -> bool:
        """Link this process (a fork, or one whose monitor has gone) on the way of a call."""
        if self._left:
            return False
        if self.serving and own.again == 0.0 and time.monotonic() >= own.no_join_before:
            self._join(own, time.monotonic() + ELECTION)
            self._start_thread(own)
        else:
            own.open()
        return own.sock is not None

    # -- connection and election -----------------------------------------------------------------------

    def _join(self, own: _Own, deadline: float) -> bool:
        started: bool | None = False
        lost_at = 0.0
        with own.lock:
            while not own.greeted:
                if own.open():
                    if own.greet(self._hello(), deadline):
                        break
                elif not started and time.monotonic() - lost_at > BIRTH:
                    started = start_monitor(self._path, self._options, deadline)
                    lost_at = time.monotonic()
                    if started:
                        continue
                if started is None or time.monotonic() >= deadline:
                    own.no_join_before = time.monotonic() + (PAUSES[-1] if started is None else SOUND)
                    break
                time.sleep(RETRY)  # somebody else's monitor is on its way up, or on its way out
        return bool(started) and own.greeted

    # -- the thread: hears the monitor, and notices its end --------------------------------------------

    def _start_thread(self, own: _Own) -> None:
        with own.lock:
            if own.thread is None or not own.thread.is_alive():
                own.thread = threading.Thread(
                    target=self._run, args=(own,), name="autocron-link", daemon=True
                )
                try:
                    own.thread.start()
                except RuntimeError:  # no thread is to be had, or the interpreter is ending
                    own.thread = None

    def _stop_thread(self, own: _Own) -> None:
        thread = own.thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            if not own.has_pipe():
                return
            os.write(own.stop_in, b"x")
            thread.join(ELECTION)
            own.thread = None

    def _run(self, own: _Own) -> None:
        tries = 0 if time.monotonic() >= own.no_join_before else 2  # `start()` has just failed
        joined = 0.0
        while not self._left:
            if own.sock is None or (self.serving and not own.greeted and not own.refused):
                if not self.serving or own.again is None:
                    return  # the next call links again
                pause = own.again or PAUSES[min(tries, len(PAUSES) - 1)]
                if self._told_to_stop(own, pause):
                    return
                own.again = 0.0
                self._join(own, time.monotonic() + ELECTION)
                joined = time.monotonic()
                tries += 1
                continue
            if self._told_to_stop(own, None):
                return
            if own.refused or time.monotonic() - joined > SOUND:
                tries = 0
            self._hear(own)

    @staticmethod
    def _told_to_stop(own: _Own, pause: float | None) -> bool:
        """Wait for the monitor to say something (or for `pause` seconds); True if the thread must end."""
        with own.lock:
            if not own.has_pipe():
                own.make_pipe()
        sock = own.sock
        wanted = [own.stop_out] if pause is not None or sock is None else [own.stop_out, sock.fileno()]
        try:
            heard = readable(wanted, pause)
        except (OSError, ValueError):  # the connection was closed by another thread
            return False
        if own.stop_out in heard and own.has_pipe():
            os.read(own.stop_out, 1)
            return True
        return False

    def _hear(self, own: _Own) -> None:
        if not own.is_mine:
            own.close()
            return
        try:
            lives = own.receive()
        except (OSError, WireError):
            lives = False
        while own.heard:
            frame = own.heard.popleft()
            if frame.kind == Kind.POKE:
                for notify in list(own.watchers.get(frame.head["id"], ())):
                    notify()
            elif frame.kind == Kind.WELCOME:
                own.monitor = frame.head["pid"]
            elif frame.kind == Kind.REFUSED:
                own.refused, own.greeted = True, False
            elif frame.kind == Kind.BYE:
                again = frame.head["again"]
                own.again = 0.0 if own.refused and again is not None else again  # this one is waited for
        if not lives:
            monitor = own.peer
            own.close()
            self._wake_watchers(own)
            reap(monitor)

    @staticmethod
    def _wake_watchers(own: _Own) -> None:
        """The monitor is gone: whoever waits for a job looks by himself from now on."""
        for notifies in list(own.watchers.values()):
            for notify in list(notifies):
                notify()


def _before_fork() -> None:
    """A thread that lives across a fork makes Python 3.12 warn."""
    for link in list(_links):
        own = link._state
        if own.pid == os.getpid() and own.thread is not None:
            own.paused = True
            task = f"/proc/self/task/{own.thread.native_id}"
            link._stop_thread(own)
            # Python counts the system's threads, of which that one ends a moment after it was joined.
            deadline = time.monotonic() + RETRY
            while os.path.exists(task) and time.monotonic() < deadline:
                os.sched_yield()


def _after_fork() -> None:
    """In the parent, which is to go on noticing its monitor's end. A child links anew at its first call."""
    for link in list(_links):
        own = link._state
        if own.pid == os.getpid() and own.paused:
            own.paused = False
            link._start_thread(own)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
