"""The monitor: one process for each store and machine that takes due jobs, hands them out, and supervises.

It is started by an app process (`autocron_web.link`), outlives that process, and ends when no app
process is left. This file says when it lives and ends; the rooms beside it do the work:

    links      app processes: who lives, who asks, who waits
    dispatch   the way of a job: claimed, handed over (`hands`), settled
    told       what app processes have told of their app, and whose word rules
    crew       worker processes, how they begin (`spawn`), and what they say (`ears`)
    timetable  crons
    requests   what a running task asks for
    info       what is told of all this to those who ask
    storethread, output, lock, loop, failures; room (descriptors), limits (of workers), setbacks (pauses)
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .. import __version__, reports
from ..errors import AutocronError, StoreError
from ..jobs import MAX_INTERRUPTIONS, RESULT_TTL, SECOND, Job, interrupted, now
from ..process import same_interpreter
from ..settings import StoreSettings
from ..store import Store
from ..store.sqlite import SqliteStore
from . import room
from .crew import Crew
from .dispatch import Dispatcher
from .failures import Broken, Failures
from .info import Info
from .links import Links, Peer
from .lock import Lock
from .loop import Loop, Timer
from .output import Printer
from .requests import Requests
from .storethread import StoreThread
from .timetable import Timetable
from .told import Told, Word
from .unknown import Unknown

LINGER = 5.0  # seconds without any app process before the pool begins to end: servers leave gaps
YIELD = 1.0  # seconds in which the older app processes leave the next monitor to the newer ones
DRAIN = 10.0  # seconds that running jobs are given then
LAST_WORDS = 0.5  # seconds that a terminal or file is given to take what was printed until then
PURGE = 60.0  # seconds between clean-ups of the store
PURGE_BATCH = 1000  # jobs that are deleted in one commit, which nobody is to wait for long
PURGE_ON = 0.1  # seconds between the batches of one clean-up
PAUSES = (0.0, 0.0, 1.0, 5.0, 30.0)  # seconds before the work begins, by the number of early deaths before
OWNER = "local"  # a SQLite store is used by one machine


class Monitor:
    """Composes the rooms and decides about the pool's life."""

    def __init__(self, path: str, lock: Lock, store: Store, early_deaths: int = 0) -> None:
        self.loop = Loop()
        self._lock = lock
        self._store = store
        self._printer = Printer()
        self._failures = Failures(self._printer)
        self.loop.on_failure = self._failed
        self._epoch = store.take_epoch(OWNER)
        recovery = store.recover(OWNER, self._epoch, now(), MAX_INTERRUPTIONS)
        store.newest_epoch(OWNER)  # opens what a read needs now: later there may be no descriptor left
        self._greetings: list[str] = []  # for the first app process: before, nobody could read them
        if any(recovery):
            self._greetings.append(f"{sum(recovery)} jobs of an earlier pool were interrupted")
        self._thread = StoreThread(
            store,
            self.loop,
            is_mine=lambda: store.newest_epoch(OWNER) == self._epoch,
            on_usurped=self._usurped,
            on_change=lambda: self._dispatch.wake(),
            on_trouble=self._trouble,
            is_reachable=lambda: self._links.is_reachable(),
            on_unreachable=lambda: self._links.listen_anew(),
        )
        self._dispatch = Dispatcher(self.loop, self._thread, OWNER, self._epoch)
        self._told = Told()
        self._python: str | None = None  # the interpreter of the workers
        self._crew = Crew(self.loop, self._dispatch, self._printer, self._told)
        self._unknown = Unknown(self.loop, self._printer, self._dispatch.knows, lambda: self._crew.is_loading)
        self._timetable = Timetable(self.loop, self._thread, self._dispatch.wake, self._printer.say)
        self._links = Links(self.loop, path + ".sock", self._printer)
        self._requests = Requests(self._thread, self._dispatch, self._crew, self._links.poke)
        self._info = Info(self._epoch, self._links, self._crew, self._dispatch, self._timetable, self._thread)
        self._connect()
        self._reports = False  # the app has functions that are told of failed jobs
        self._draining = False
        self._closing = False
        self._store_gone = False
        self._early_deaths = early_deaths
        self._ended_by: str | None = None  # set when the pool ends although app processes live
        self._again: float | None = 0.0  # seconds after which those may start another, None for never
        self._linger: Timer | None = None
        self._deadline: Timer | None = None
        self._set(store.settings())

    def _connect(self) -> None:
        """Which room tells which."""
        links, crew, dispatch = self._links, self._crew, self._dispatch
        links.on_hello, links.on_joined, links.on_gone = self._hello, self._joined, self._gone
        links.on_wake = dispatch.wake
        links.on_cancel = self._cancel
        links.on_modules = self._learn_modules
        links.on_count = self._count
        links.on_info = lambda: self._info.tell(
            self._ended_by or ("no app process" if self._draining else None)
        )
        links.on_end = lambda: self._end("the pool was told to stop", again=None)
        links.on_settings = lambda: self._thread.ask(lambda store: store.settings(), self._set)
        dispatch.on_failure = self._report
        dispatch.on_news = self._news
        dispatch.on_unknown = self._unknown.seen
        dispatch.on_idle = self._check_end
        crew.on_ready = self._worker_ready
        crew.on_ask = links.on_ask = self._requests.answer
        crew.on_change = self._lock.write_workers
        crew.on_empty = self._check_end

    def begin(self) -> None:
        """Take connections. Raises `StoreError` or OSError where that cannot be."""
        # The thread that started this process may have blocked them, as servers do in their own threads.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGCHLD, lambda *_: self.loop.call_soon(self._crew.reap))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.loop.call_soon(self._terminate))
        self._links.listen()
        self._thread.start()
        self._hold()
        self._count(0, False)
        self._clean()

    def _hold(self) -> None:
        """After some deaths in a row whatever has caused them is given time: it would cost jobs again."""
        pause = PAUSES[min(self._early_deaths, len(PAUSES) - 1)]
        self._lock.write_life(self._early_deaths, self.loop.time() + pause)
        if pause:
            why = (
                f"the pool's monitor has died {self._early_deaths} times in a row, soon after its start each"
                f" time: the next one waits {pause:g} s before it runs jobs"
            )
            self._crew.hold(pause, why)
            self._greetings.append(why)

    def run(self) -> None:
        """Serve until the pool has ended."""
        try:
            self.loop.run()
        except BaseException as error:  # a mistake in this package: the workers end with this process
            import traceback

            self._printer.say(
                "the monitor has failed\n" + "".join(traceback.format_exception(error)).rstrip()
            )
            raise
        finally:
            self._printer.flush(LAST_WORDS)

    def _failed(self, error: Exception) -> None:
        """A callback of the loop has failed, and costs no more than what it was about: if that is all."""
        self._failures.note(error)
        self.loop.call_soon(self._look_for_lost_jobs)

    def _look_for_lost_jobs(self) -> None:
        if not self._dispatch.is_sound(self._crew.pids):
            raise Broken("a job was lost in that failure: the next monitor looks after it")

    # -- app processes ---------------------------------------------------------------------------------

    def _hello(self, hello: dict[str, Any]) -> str | None:
        word = Word.of(hello)
        if self._ended_by is None and self._is_other(word) and self._told.would_rule(word):
            self._make_room()
        return self._ended_by

    def _joined(self, peer: Peer, hello: dict[str, Any]) -> None:
        word = Word.of(hello)
        self._python = self._python or word.load["python"]
        self._told.join(peer, word)
        while self._greetings:
            self._printer.say(self._greetings.pop(0))
        self._crew.follow()

    def _gone(self, peer: Peer) -> None:
        """An app process has ended or left: another one's word may rule."""
        self._told.leave(peer)
        word = self._told.ruling
        if word is None or self._ended_by is not None:
            return
        if self._is_other(word):
            self._make_room()
        else:
            self._crew.follow()

    def _learn_modules(self, peer: Peer, modules: list[str]) -> None:
        if peer.hello is not None:
            self._told.add_modules(peer, modules)
            self._crew.add_modules()

    def _is_other(self, word: Word) -> bool:
        """Whether such an app cannot be loaded by this monitor's kind of workers."""
        python = word.load["python"]
        return word.version != __version__ or not same_interpreter(self._python or python, python)

    def _make_room(self) -> None:
        self._end("the pool makes room for one with another interpreter or version", again=YIELD)

    def _count(self, count: int, stop: bool) -> None:
        """The number of app processes has changed."""
        if self._linger is not None:
            self._linger.cancel()
        if count:
            if self._ended_by is None:
                self._resume()
        elif stop:
            self._drain()
        else:
            self._dispatch.accept(False)
            self._linger = self.loop.after(LINGER, self._drain)

    def _worker_ready(self, head: dict[str, Any]) -> None:
        self._dispatch.learn(head["tasks"], head["concurrency"])
        self._timetable.learn(head["crons"])
        self._unknown.learn(head)
        self._reports = head["reports"]

    def _news(self, jobs: Iterable[Job]) -> None:
        self._info.count(jobs)
        self._links.poke(jobs)

    def _set(self, settings: dict[str, str]) -> None:
        """What the user has set for this store."""
        workers, ttl, locked = StoreSettings.read(settings)
        self._crew.fix_size(workers)
        self._dispatch.result_ttl = RESULT_TTL if ttl is None else ttl * SECOND
        if locked:
            self._end("the store was locked", again=None)

    def _cancel(self, job_id: str) -> None:
        reason = "cancelled while it ran"
        if not self._dispatch.cancel(job_id, reason):  # it has ended, or waits again since the app looked
            self._thread.ask(lambda store: store.cancel(job_id, now(), reason))

    def _report(self, job: Job) -> None:
        """A job has ended in error, and its worker with it: another one tells the app's functions."""
        if self._reports and job.kind != "report":
            report = reports.late(job)
            self._thread.ask(lambda store: store.enqueue([report]), lambda ids: self._dispatch.wake())

    # -- the end -----------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """An app process lives: claim jobs."""
        self._draining = False
        if self._deadline is not None:
            self._deadline.cancel()
        self._dispatch.accept(True)

    def _end(self, reason: str, *, again: float | None) -> None:
        """Drain and end although app processes may live; they may start another one after `again` seconds."""
        self._ended_by, self._again = reason, again
        self._drain()

    def _usurped(self) -> None:
        """Another monitor has begun a later epoch, so whatever this one still did would be refused."""
        self._printer.say("another monitor uses this store (was its lock file deleted?): this one ends")
        self._end("another monitor uses this store", again=0.0)
        self._close_crew()

    def _drain(self) -> None:
        """No more claims; running jobs have `DRAIN` seconds left."""
        if self._draining:
            return
        self._draining = True
        self._deadline = self.loop.after(DRAIN, self._close_crew)
        self._dispatch.accept(False)

    def _check_end(self) -> None:
        """Something that the end waits for may have happened."""
        if self._draining and not self._dispatch.running:
            self._close_crew()
        if self._closing and not self._crew.pids and (self._store_gone or not self._dispatch.busy):
            self._finish()

    def _close_crew(self) -> None:
        """End the workers. From here there is no way back."""
        if self._closing:
            return
        self._closing = True
        self._ended_by = self._ended_by or "the pool is ending"
        self._crew.close(interrupted)
        # What cannot be written by then is found as interrupted by the next monitor.
        self.loop.after(DRAIN, self._finish)

    def _finish(self) -> None:
        """All workers are gone and all outcomes written: say goodbye and end."""
        self._thread.close(timeout=1.0)
        self._lock.write_end()
        self._links.close(self._again)
        self.loop.stop()

    def _terminate(self) -> None:
        """SIGTERM or SIGINT: drain and end; the second one ends at once."""
        if self._ended_by is not None:
            self._close_crew()
            return
        self._end("the pool was told to end", again=LINGER)

    def _trouble(self, text: str, fatal: bool) -> None:
        """The store cannot be used. If it is gone for good, so is the pool: no outcome can be written."""
        self._printer.say(text)
        if fatal:
            self._store_gone = True
            if self._ended_by is None:
                self._end(text, again=None)
            self._close_crew()
            self._check_end()

    # -- housekeeping -----------------------------------------------------------------------------------

    def _clean(self) -> None:
        def cleaned(number: int) -> None:
            self.loop.after(PURGE_ON if number >= PURGE_BATCH else PURGE, self._clean)

        def failed(error: Exception) -> None:
            self.loop.after(PURGE, self._clean)
            raise error

        self._thread.ask(lambda store: store.purge(now(), PURGE_BATCH), cleaned, failed=failed, durable=False)


def main(arguments: list[str]) -> None:
    """`monitor DATABASE READY_FD OPTIONS`: become the monitor, or end because there is one.

    A "1" on READY_FD says that the socket takes connections, a "0" that somebody else is the monitor; its
    end without either says that this one could not start, and a line on stderr says why.
    """
    path, ready, options = arguments[0], int(arguments[1]), json.loads(arguments[2])
    try:
        if os.fork():
            os._exit(0)  # so that it is no child of the server, which may wait for any child (PEP 3143)
        room.raise_limit()
        lock = Lock(path + ".lock")
        if not lock.take():
            with suppress(OSError):  # the starter has ended since
                os.write(ready, b"0")
            os._exit(0)
        early_deaths = lock.early_deaths()
        lock.end_earlier_workers()
        # Who starts a monitor has opened the database: one that is not there any more was deleted since.
        store = SqliteStore(path, durability=options["durability"], must_exist=True)
        store.open()
        if StoreSettings.read(store.settings()).autocron_lock:
            raise StoreError(f"{path} is locked. Unlock it: autocron {path} --set-autocron-lock off")
        monitor = Monitor(path, lock, store, early_deaths)
        monitor.begin()
    except (AutocronError, OSError, RuntimeError) as error:  # the last: no thread is to be had
        printer = Printer()  # whoever waits for a terminal here would keep the lock from others
        printer.set_targets((1, 2))
        printer.say(f"the pool cannot start: {error}")
        printer.flush(LAST_WORDS)
        os._exit(1)
    monitor.loop.call_soon(lambda: _announce(ready))
    monitor.run()
    os._exit(0)


def _announce(ready: int) -> None:
    """Tell the starter, and let go of its output: a pool must not keep a pipe of the app's open."""
    with suppress(OSError):  # it has ended since
        os.write(ready, b"1")
    os.close(ready)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
