"""The app process's link to the monitor: says that this process lives, wakes, watches, starts a monitor.

Nothing is lost without a link: calls write to the store themselves. So what a call does here comes after its
commit, never waits, and raises nothing: a frame is sent if that can be done at once. All that takes time (to
start a monitor, to say hello) is done by `start()` and by the link's thread, on a connection that nobody else
sees before it is ready.

What belongs to a process (the connection, the thread, the locks) sits in one object that carries the
owner's pid. After a fork the child finds another pid, leaves the object alone for ever and makes its own.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .connection import PATIENCE, Connection
from .jobs import now
from .launch import reap_monitor, start_monitor, wait_for_end
from .linkstate import MAX_OVER, Own
from .listener import PAUSES, SOUND, Listener
from .pool.wire import Frame, Kind, WireError
from .serving import forks_in_c

ELECTION = 2.0  # seconds that `start()` waits at most for a pool that answers
RETRY = 0.01  # seconds between looks for the monitor that won the election
BIRTH = 0.2  # seconds that one which has won is given until it takes connections
LONGEST_SEND = 3600.0  # seconds

_abandoned: list[Own] = []  # kept, so that nothing in a child closes what it shares with its parent
_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link(Listener):
    """One store's link of this process.

    path: the database. hello: makes the document that tells the monitor how to load the app.
    serving: whether this process counts; one that does not only wakes the monitor and watches jobs.
    """

    def __init__(
        self, path: str, hello: Callable[[], dict[str, Any]], *, serving: bool, durability: str
    ) -> None:
        super().__init__(serving=serving)
        self._path = path
        self._hello = hello
        self._options = {"durability": durability}
        self._state = Own()
        _links.add(self)

    def _own(self) -> Own:
        if self._state.pid != os.getpid():
            _abandoned.append(self._state)
            self._state = Own()
        return self._state

    @property
    def connected(self) -> bool:
        """Whether the monitor can tell this process something."""
        return self._own().connection is not None

    # -- what an app process says ----------------------------------------------------------------------

    def join(self) -> bool:
        """Count as an app process: link to the monitor, or start one. Whether this call has started it."""
        own = self._own()
        self._left, own.again = False, 0.0
        started = self._try_to_join(own)
        self._start_thread(own)
        return started

    def wake(self, due: int) -> None:
        """Jobs were stored, the first due then. If that cannot be said, the monitor looks by itself."""
        own = self._own()
        try:
            self._say(own, Frame(Kind.WAKE, 0, {"due": due} if due > now() else {}))
            if not self._has_thread(own):
                self._try_to_join(own)
        except Exception as error:
            self._tell(error)

    def cancel(self, job_id: str) -> bool:
        """End a running job. Whether it could be asked for; a link that is being made is waited for."""
        own = self._own()
        frame = Frame(Kind.CANCEL, 0, {"id": job_id})
        deadline = time.monotonic() + ELECTION
        try:
            while not self._say(own, frame):
                if not self._has_thread(own) or not self._is_joining(own) or time.monotonic() >= deadline:
                    return False
                time.sleep(RETRY)
            return True
        except Exception as error:
            self._tell(error)
            return False

    def modules(self, names: list[str]) -> None:
        """More modules have registered tasks. A hello that is being said just now may lack them."""
        own = self._state
        if own.pid != os.getpid():
            return
        try:
            own.modules += names
            if self._is_greeted(own):
                self._say(own, Frame(Kind.MODULES, 0, {"modules": names}))
        except Exception as error:
            self._tell(error)

    def watch(self, job_id: str, notify: Callable[[], object]) -> None:
        """From now on, until `unwatch`, call this whenever the job may have changed. Never waits."""
        own = self._own()
        with own.lock:
            own.watchers.setdefault(job_id, []).append(notify)
        over = own.take_over()
        head = {"id": job_id, "over": over} if over else {"id": job_id}
        try:
            if self._say(own, Frame(Kind.WATCH, 0, head)) or self.serving:
                self._has_thread(own, or_any=True)
        except Exception as error:  # then whoever waits looks by himself
            self._tell(error)

    def unwatch(self, job_id: str, notify: Callable[[], object]) -> None:
        """Do not call it any more, if it was to be called at all."""
        own = self._own()
        with own.lock:
            notifies = own.watchers.get(job_id, [])
            if notify in notifies:
                notifies.remove(notify)
            if not notifies and own.watchers.pop(job_id, None) is not None:
                own.over.append(job_id)
        connection = own.connection
        if len(own.over) >= MAX_OVER and connection is not None:
            with suppress(OSError):  # then there is nothing to be forgotten any more
                connection.send_at_once(Frame(Kind.WATCH, 0, {"over": own.take_over()}))

    def leave(self) -> None:
        """Do not count any more; returns at once."""
        self._left = True
        own = self._state
        if own.pid != os.getpid():
            return
        with own.lock:
            connection = own.connection
            if connection is not None:
                self._say_goodbye(own, connection)
            own.wake_thread()  # it ends

    def stop(self, timeout: float | None) -> bool:
        """Leave, and if no other app process is left wait for the pool's end. Whether that was in time."""
        own = self._own()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._stop_thread(own)
        self._left = True
        connection = own.connection
        if connection is None:
            return True
        seen, monitor = self._ask_for_end(connection, timeout, deadline), connection.peer
        own.drop(connection)
        reap_monitor(monitor)
        return seen

    @staticmethod
    def _ask_for_end(connection: Connection, timeout: float | None, deadline: float | None) -> bool:
        monitor = connection.monitor
        if monitor is None:
            return True
        try:
            connection.send(
                Frame(Kind.STOP), None if timeout is None else min(max(timeout, 0.0), LONGEST_SEND)
            )
            connection.greeted = False
            while True:
                frame = connection.next_frame(deadline)
                if frame is None:
                    return False
                if frame.kind == Kind.BYE:
                    return not frame.head.get("last", True) or wait_for_end(monitor, deadline)
        except (OSError, WireError, EOFError):  # it is ending already
            return wait_for_end(monitor, deadline)

    def _say(self, own: Own, frame: Frame) -> bool:
        """Send a frame if that can be done at once; where there is no connection, by one without a hello."""
        for _ in range(2):  # a connection that has broken since is made anew once
            connection = own.connection or self._connect(own)
            if connection is None:
                return False
            try:
                return connection.send_at_once(frame)
            except OSError:
                own.drop(connection)
        return False

    def _connect(self, own: Own) -> Connection | None:
        if self._left:
            return own.connection
        try:
            connection = Connection(self._path, 0)
        except OSError:
            return own.connection
        with own.lock:
            if own.connection is None and not self._left:
                own.connection = connection
        if own.connection is not connection:  # another thread was faster
            connection.close()
        return own.connection

    @staticmethod
    def _say_goodbye(own: Own, connection: Connection) -> None:
        with suppress(OSError):
            connection.send_at_once(Frame(Kind.LEAVE))
        own.drop(connection)

    # -- connection and election -----------------------------------------------------------------------

    def _try_to_join(self, own: Own) -> bool:
        """Whether a monitor was started. Whatever the system throws is told once, and tried again later."""
        try:
            deadline = time.monotonic() + ELECTION
            with own.joining:
                return self._join(own, deadline)
        except Exception as error:
            own.no_join_before = time.monotonic() + SOUND
            self._tell(error)
            return False

    def _join(self, own: Own, deadline: float) -> bool:
        started: bool | None = False
        lost_at = 0.0
        told = len(own.modules)
        hello: dict[str, Any] | None = None
        while not self._is_greeted(own):
            hello = hello or self._hello()  # without one, no monitor is started
            try:
                connection = Connection(self._path, PATIENCE)
            except OSError:
                connection = None
            if connection is not None:
                if self._greet(own, connection, hello, deadline):
                    self._catch_up(own, told)
                    break
            elif not started and time.monotonic() - lost_at > BIRTH:
                started = start_monitor(self._path, self._options, deadline)
                lost_at = time.monotonic()
                if started:
                    continue
            if self._left:
                break
            if started is None or time.monotonic() >= deadline:
                own.no_join_before = time.monotonic() + (PAUSES[-1] if started is None else SOUND)
                break
            time.sleep(RETRY)  # somebody else's monitor is on its way up, or on its way out
        return bool(started) and self._is_greeted(own)

    @staticmethod
    def _is_greeted(own: Own) -> bool:
        connection = own.connection
        return connection is not None and connection.greeted

    def _is_joining(self, own: Own) -> bool:
        """Whether the thread is about to link this process anew."""
        ready = own.again == 0.0 and time.monotonic() >= own.no_join_before
        return self.serving and not self._left and ready

    def _greet(self, own: Own, connection: Connection, hello: dict[str, Any], deadline: float) -> bool:
        """Say hello, and let everybody use the connection from then on. Whether that is of use."""
        try:
            connection.greet(hello, deadline)
            with own.lock:
                before, own.connection = own.connection, connection
                if before is not None:
                    before.close()
                if self._left:
                    self._say_goodbye(own, connection)
                    return False
                own.wake_thread()
        except (WireError, EOFError, ConnectionError, TimeoutError):
            connection.close()
            return False
        except BaseException:
            connection.close()
            raise
        own.again = 0.0
        self._told.clear()
        return connection.greeted

    def _catch_up(self, own: Own, told: int) -> None:
        """Say what was to be said while there was no connection, or another one."""
        late = own.modules[told:]
        if late:
            self._say(own, Frame(Kind.MODULES, 0, {"modules": late}))
        self._say(own, Frame(Kind.WAKE))
        for job_id in list(own.watchers):
            self._say(own, Frame(Kind.WATCH, 0, {"id": job_id}))

    # -- the thread --------------------------------------------------------------------------------------

    def _has_thread(self, own: Own, *, or_any: bool = False) -> bool:
        """Let the thread link this process (a fork, or one whose monitor has gone) if that is to be done.

        False where it is, and no thread is to be had for it. or_any: start it also where it only listens.
        """
        connection = own.connection
        linked = connection is not None and connection.is_linked
        alive = own.thread is not None
        if self._left or (linked and alive) or not (self.serving or or_any):
            return True
        moment = time.monotonic()
        if self.serving and not linked:
            if own.again != 0.0 or moment < own.no_join_before:
                return True
            if alive and own.waits:
                own.wake_thread()
        return self._start_thread(own) or linked or or_any

    def _start_thread(self, own: Own) -> bool:
        """Whether it runs."""
        with own.lock:
            if own.thread is not None and own.thread.is_alive():
                return True
            # Of a process that forks past Python the forks begin theirs with their first call.
            return time.monotonic() >= own.no_thread_before and not forks_in_c() and self._begin_thread(own)

    def _begin_thread(self, own: Own) -> bool:
        own.halt = False
        own.tries = 0 if time.monotonic() >= own.no_join_before else 2  # `start()` has just failed
        try:
            own.pipe()
            own.thread = threading.Thread(target=self._run, args=(own,), name="autocron-link", daemon=True)
            own.thread.start()
        except Exception as error:  # no thread or descriptor is to be had, or the interpreter is ending
            own.thread = None
            own.no_thread_before = time.monotonic() + SOUND
            self._tell(error)
            return False
        return True

    def _stop_thread(self, own: Own) -> None:
        thread = own.thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            own.halt = True
            own.wake_thread()
            thread.join(ELECTION)


def _before_fork() -> None:
    """A thread that lives across a fork makes Python 3.12 warn."""
    for link in list(_links):
        own = link._state
        thread = own.thread
        if own.pid == os.getpid() and thread is not None:
            own.paused = True
            task = f"/proc/self/task/{thread.native_id}"
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
