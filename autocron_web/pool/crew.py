"""The workers as processes: started, fed, watched, replaced and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from ..process import describe_end, kill_group, pool_command
from .dispatch import Dispatcher
from .loop import Loop, Timer
from .member import Limits, Outcome, Worker
from .output import Output, Printer
from .shelf import Shelf
from .wire import Channel, Frame, Kind, WireError

PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker that cannot start is tried again
LOAD_KEYS = ("path", "argv", "cwd", "main", "loader", "database", "modules")  # of the hello, for the worker
SOUND = 5.0  # seconds without an end after which a worker counts as one that can live
FAREWELL = 2.0  # seconds that a worker without a job may take for its own end


class Crew:
    """Keeps the set number of workers alive, all of them loaded with the newest app."""

    def __init__(self, loop: Loop, dispatch: Dispatcher, printer: Printer) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._printer = printer
        self._workers: dict[int, Worker] = {}  # by pid
        self.limits = Limits()
        self._asked = 0  # the size that the newest code asks for
        self._fixed: int | None = None  # the size that somebody has set for the store
        self._load: dict[str, Any] | None = None  # how to load the app: the newest code's word
        self._born = -1  # when the process began whose word that is
        self._failures = 0  # starts in a row that failed
        self._failed_at = 0.0  # the last of them
        self._trouble: str | None = None  # why workers cannot load the app
        self._end: str | None = None  # how the last worker ended that could not start
        self._respawn: Timer | None = None
        self._closing = False
        self.on_ready: Callable[[dict[str, Any]], None] = lambda head: None
        self.on_ask: Callable[[Worker, Frame], None] = lambda worker, frame: None
        self.on_change: Callable[[list[int]], None] = lambda pids: None  # the set of processes
        self.on_empty: Callable[[], None] = lambda: None

    @property
    def pids(self) -> list[int]:
        return list(self._workers)

    @property
    def workers(self) -> list[Worker]:
        """All worker processes, the oldest first."""
        return list(self._workers.values())

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return self._asked if self._fixed is None else self._fixed

    @property
    def is_stuck(self) -> bool:
        """Whether every worker runs a task that waits for a job which no worker is free to run."""
        return all(worker.is_stuck for worker in self._workers.values() if worker.is_staying)

    @property
    def trouble(self) -> str | None:
        """Why workers cannot start, from the first failure until one has loaded the app."""
        return self._trouble or self._end

    # -- what the monitor wants ----------------------------------------------------------------------

    def is_newer(self, born: int) -> bool:
        """Whether code that was imported then is newer than what the workers have loaded."""
        return born > self._born

    @property
    def is_loading(self) -> bool:
        """Whether workers may come to know more tasks: in a moment, or when they can load the app again."""
        return self._trouble is not None or any(worker.loads for worker in self._workers.values())

    @property
    def python(self) -> str | None:
        """The interpreter of the workers."""
        return self._load["python"] if self._load else None

    def load(self, load: dict[str, Any], size: int, limits: Limits, born: int) -> None:
        """An app process has said how to load the app; `born` is when it imported its own code.

        Workers are replaced, each after its job, if that is newer code and differs from theirs: another
        way of loading, or files that have changed since. A fork of an older process (a preloading
        server's) has the older code, whatever the files say now, and changes nothing.
        """
        if self._load is not None and born < self._born:
            return
        before, self._load = self._load, load
        if before is not None and born == self._born:
            load["modules"] = sorted({*before["modules"], *load["modules"]})
        elif before is not None:
            other = any(before[key] != load[key] for key in load.keys() - {"modules", "argv", "main"})
            for worker in list(self._workers.values()):
                if other or worker.is_stale():
                    self.retire(worker)
            self.add_modules(load["modules"])
            self._failures = 0  # the newer code is tried at once
            if self._respawn is not None:
                self._respawn.cancel()
        self._born, self._asked, self.limits = born, size, limits
        for worker in self._workers.values():
            worker.limits = limits
        self._fit()

    def fix_size(self, size: int | None) -> None:
        """So many workers, whatever the app asks for; None leaves it to the app."""
        self._fixed = size
        self._fit()

    def _fit(self) -> None:
        """Retire those that are too many, first of all those without a job; start those that are missing."""
        staying = [worker for worker in self._workers.values() if worker.is_staying]
        staying.sort(key=lambda worker: not worker.runs)
        for worker in staying[self.size :]:
            self.retire(worker)
        self._fill()

    def add_modules(self, modules: list[str]) -> None:
        """More modules have registered tasks in the app: workers that have not imported them do so."""
        assert self._load is not None
        self._load["modules"] = sorted({*self._load["modules"], *modules})
        loader, main = self._load["loader"], self._load["main"]
        in_main = "__main__" in modules or (loader is not None and loader["module"] == "__main__")
        for worker in [worker for worker in self._workers.values() if not worker.retiring]:
            missing = [name for name in modules if name not in worker.modules]
            if in_main and worker.main != main:  # that of another program, which has no tasks itself
                self.retire(worker)
            elif worker.ready and missing:
                worker.load({"modules": missing})
        self._fill()

    def retire(self, worker: Worker) -> None:
        """Let the worker finish its jobs and end; another one takes its place."""
        worker.retiring = True
        self._dispatch.worker_out(worker)
        if not worker.runs and not worker.reporting:
            self._dismiss(worker)

    def close(self, outcome: Outcome) -> None:
        """End all workers: at once where a job runs, politely where none does. `on_empty` tells when."""
        self._closing = True
        if self._respawn is not None:
            self._respawn.cancel()
        for worker in list(self._workers.values()):
            if worker.runs:
                worker.kill(outcome)
            else:
                self._dismiss(worker)
        if not self._workers:
            self.on_empty()

    def reap(self) -> None:
        """A child has ended (SIGCHLD)."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            kill_group(pid)  # what its task has started; before the wait, while the id is surely its own
            status = os.waitpid(pid, 0)[1]
            worker = self._workers.pop(pid, None)
            if worker is not None:
                worker.process.returncode = os.waitstatus_to_exitcode(status)
                self._buried(worker, describe_end(status))

    # -- the life of a worker --------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start as many workers as are missing."""
        if (
            self._closing
            or self._load is None
            or (self._respawn is not None and self._respawn.callback is not None)
        ):
            return
        staying = sum(worker.is_staying for worker in self._workers.values())
        try:
            for _ in range(self.size - staying):
                self._spawn(self._load)
        except OSError as error:  # no process or descriptor to be had
            self._start_failed(f"could not be started ({error.strerror})")
        self.on_change(self.pids)

    def _spawn(self, load: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        output = Output(self._loop, self._printer)
        shelf = Shelf()
        noticed, notice = os.pipe()
        given = (theirs.fileno(), shelf.workers_end, noticed)
        # Until the worker has handlers, a signal to all processes (Ctrl-C, a service's stop) would end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            process = subprocess.Popen(
                pool_command(load["python"], "worker", *map(str, (*given, os.getpid()))),
                env=load["env"],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output.worker_ends[0],
                stderr=output.worker_ends[1],
                pass_fds=given,
                process_group=0,
            )
        except OSError:
            ours.close()
            shelf.close()
            os.close(notice)
            output.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            theirs.close()
            os.close(noticed)
            output.close_worker_ends()
        worker = Worker(self._loop, process, Channel(ours), shelf, notice, output)
        self._workers[worker.pid] = worker
        worker.born, worker.main, worker.limits = self._born, load["main"], self.limits
        worker.hear = output.before = lambda: self._hear(worker)
        worker.leave = lambda: self._left(worker)
        self._loop.watch(ours, worker.hear)
        worker.load({key: load[key] for key in LOAD_KEYS})

    def _left(self, worker: Worker) -> None:
        """The worker takes no more jobs: another one may come."""
        self._dispatch.worker_out(worker)
        self._fill()

    def _dismiss(self, worker: Worker) -> None:
        """No more jobs for this worker: it ends when it sees the end of its channel."""
        self._loop.unwatch(worker.channel)
        worker.channel.close()
        worker.retiring = True
        self._loop.after(FAREWELL, lambda: self._kill_if_alive(worker))

    def _kill_if_alive(self, worker: Worker) -> None:
        if self._workers.get(worker.pid) is worker:
            kill_group(worker.pid)

    def _buried(self, worker: Worker, how: str) -> None:
        """The process has ended and been waited for."""
        worker.stop_clocks()
        expected, worker.retiring = worker.retiring or worker.proven or bool(worker.runs), True
        self._hear(worker)  # a result may still lie in its channel
        self._dispatch.worker_ended(worker, how)
        worker.close()
        if not expected:
            in_vain = worker.ready and self._trouble is None
            self._start_failed(how, "ended without a job" if in_vain else "cannot start")
        self.on_change(self.pids)
        if self._closing and not self._workers:
            self.on_empty()
        self._fill()

    def _start_failed(self, how: str, what: str = "cannot start") -> None:
        self._end = f"a worker {what}: it {how}"
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._failed_at = self._loop.time()
        if self._failures == 1:
            self._printer.say(
                f"a worker {what}: {self._trouble or 'it ' + how}; tried again, at most every 30 s"
            )
        if not self._closing:
            self._respawn = self._loop.after(pause, self._fill)

    # -- what workers say ------------------------------------------------------------------------------

    def _hear(self, worker: Worker) -> None:
        """What it has laid down on its shelf, then what it says; read in the other order."""
        try:
            frames = worker.channel.receive()
            done = worker.shelf.done() if len(worker.runs) > 1 else []
        except WireError as error:
            if not any(
                run.verdict for run in worker.runs.values()
            ):  # else stopped in the middle of a request
                self._printer.say(f"worker {worker.pid} is ended: {error}")
            kill_group(worker.pid)
            return
        if frames is None:
            self._loop.unwatch(worker.channel)  # it is ending: SIGCHLD follows
        if done:
            self._prove(worker)
            self._dispatch.done(worker, done)
            self._heed_end(worker, {})
        for frame in frames or ():
            if frame.kind == Kind.RESULT:
                self._finished(worker, frame)
                worker.go_on()
            elif frame.kind == Kind.READY:
                self._ready(worker, frame.head)
            elif frame.kind == Kind.FREE:
                self._freed(worker, frame.head)
            else:
                self.on_ask(worker, frame)
        if done or frames:
            self._dispatch.go_on()

    def _ready(self, worker: Worker, head: dict[str, Any]) -> None:
        worker.loads -= 1
        if "trouble" in head:
            self._trouble = head["trouble"]
            return  # it ends by itself
        self._trouble = self._end = None
        worker.modules = frozenset(head["modules"])
        worker.files.update(head["files"])
        if worker.born != self._born and worker.is_stale():  # newer code came while this was loaded
            self.retire(worker)
            self._fill()
            return
        self.on_ready(head)
        if not worker.ready:
            worker.ready = True
            worker.output.take()  # what the app printed while it was loaded belongs to no job
            self._loop.after(SOUND, lambda: self._prove(worker))
            assert self._load is not None
            self.add_modules(self._load["modules"])  # those that came while it loaded
            self._dispatch.worker_free(worker)
            self._relieve()
        elif worker.runs:
            self._dispatch.worker_free(worker)

    def _relieve(self) -> None:
        """A worker has come: one that was to leave can go."""
        for worker in self._workers.values():
            if worker.leaving and not worker.retiring:
                self.retire(worker)
                return

    def _prove(self, worker: Worker) -> None:
        """The worker has lived for a while, or finished a job: what ends it now is nothing of its start."""
        if not worker.retiring:
            worker.proven = True
            if worker.since > self._failed_at:
                self._failures = 0

    def _finished(self, worker: Worker, frame: Frame) -> None:
        head = frame.head
        run = worker.runs.get(head["id"])
        if run is None:
            return
        self._prove(worker)
        worker.files.update(head.get("files", {}))
        self._heed_end(worker, head)
        if "reporting" in head and (run.shared or run.verdict is None):
            worker.report()
            if not run.shared:
                self._dispatch.worker_out(worker)
        printed = worker.output.take()  # while several jobs run, by all of them
        self._dispatch.result(worker, head, frame.blob, head.get("output", printed))
        if worker.retiring and not worker.runs and not worker.reporting:
            self._dismiss(worker)

    def _freed(self, worker: Worker, head: dict[str, Any]) -> None:
        """The app's functions have been told of the failed job."""
        worker.reported()
        worker.output.take()  # it has been shown, and belongs to no job
        self._heed_end(worker, head)
        if not worker.retiring:
            self._dispatch.worker_free(worker)
        elif not worker.runs:
            self._dismiss(worker)

    def _heed_end(self, worker: Worker, head: dict[str, Any]) -> None:
        """Replace the worker if it may run no other task; let another one come if it has run enough."""
        if "spent" in head:
            self._printer.say(f"a worker is replaced: a task {head['spent']}")
            worker.retiring = True
            self._left(worker)
        elif worker.is_staying and self.limits.is_used_up(worker):
            worker.leaving = True
            self._fill()
