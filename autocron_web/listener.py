"""What the thread of a link does: it hears the monitor, notices its end, and sees to another one."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from .connection import Connection
from .errors import in_words
from .launch import reap, reap_monitor
from .linkstate import Own
from .pool.wire import Kind, WireError
from .settings import warn

SOUND = 5.0  # seconds after which a monitor counts as one that works
PAUSES = (0.0, 0.2, 1.0, 5.0, 30.0)  # seconds between tries of the link's thread
REAP = 1.0  # seconds between looks at what has launched a monitor and has not ended yet


class Listener:
    """The part of a link that its thread runs."""

    def __init__(self, *, serving: bool) -> None:
        self.serving = serving
        self._left = False
        self._told: set[object] = set()  # the troubles that were told since all was well

    def _try_to_join(self, own: Own) -> bool:
        """Link to the monitor, or start one. Whether that was to be done, and was; raises nothing."""
        raise NotImplementedError

    def _tell(self, error: Exception) -> None:
        """Log what is wrong, once until all is well again."""
        kind = type(error), getattr(error, "errno", None)
        if kind in self._told or "shutdown" in str(error):  # of the interpreter
            return
        with suppress(Exception):  # the log may lack what we lack
            warn(
                f"the pool cannot be reached or started: {in_words(error)}."
                " Jobs are stored, and wait for it; it is tried again and again"
            )
            self._told.add(kind)

    def _run(self, own: Own) -> None:
        try:
            while not self._is_at_end(own):
                try:
                    self._take_turn(own)
                except Exception as error:
                    self._tell(error)
                    time.sleep(PAUSES[2])
        finally:
            if own.thread is threading.current_thread():
                own.thread = None

    def _is_at_end(self, own: Own) -> bool:
        with own.lock:  # so that nobody who wants a thread takes this one for one that goes on
            if over := self._is_over(own):
                own.thread = None if own.thread is threading.current_thread() else own.thread
            return over

    def _is_over(self, own: Own) -> bool:
        """Whether there is nothing to be heard or done: then the next call begins another thread."""
        if own.halt or self._left or own.thread is not threading.current_thread():
            return True
        return own.connection is None and (not self.serving or own.again is None)

    def _take_turn(self, own: Own) -> None:
        connection = own.connection
        if connection is not None and (connection.is_linked or not self.serving or own.again is None):
            if self._wait_for_news(own, connection):
                self._hear(own, connection)
            return
        pause = own.again or PAUSES[min(own.tries, len(PAUSES) - 1)]
        # Calls hurry the thread, but not to the next monitor when the last ones have died young.
        own.no_join_before = max(own.no_join_before, time.monotonic() + min(pause, SOUND))
        own.waits = True
        own.wait(None, pause)
        own.waits = False
        if not self._is_over(own):
            own.again = 0.0
            self._try_to_join(own)
            own.joined = time.monotonic()
            own.tries += 1

    @staticmethod
    def _wait_for_news(own: Own, connection: Connection) -> bool:
        said = own.wait(connection, REAP if reap() else None)
        if connection.refused or time.monotonic() - own.joined > SOUND:
            own.tries = 0
        return said or not connection.is_mine

    def _hear(self, own: Own, connection: Connection) -> None:
        try:
            lives = connection.receive()
        except (OSError, WireError):
            lives = False
        while connection.heard:
            frame = connection.heard.popleft()
            if frame.kind == Kind.POKE:
                self._notify(own, [frame.head["id"]])
            elif frame.kind == Kind.WELCOME:
                connection.monitor = frame.head["pid"]
            elif frame.kind == Kind.REFUSED:
                connection.refused, connection.greeted = True, False
            elif frame.kind == Kind.BYE:
                again = frame.head["again"]
                # The end of one that has refused this process is waited for.
                own.again = 0.0 if connection.refused and again is not None else again
        if not lives:
            monitor = connection.peer
            own.drop(connection)
            self._notify(own, list(own.watchers))  # whoever waits for a job looks by himself from now on
            reap_monitor(monitor)

    @staticmethod
    def _notify(own: Own, job_ids: list[str]) -> None:
        for job_id in job_ids:
            for notify in list(own.watchers.get(job_id, ())):
                notify()
