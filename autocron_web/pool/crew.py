"""The workers as processes: started, fed, watched, replaced and ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..process import adopt_orphans, describe_end, kill_group
from .dispatch import Dispatcher
from .ears import Ears
from .inflight import Outcome
from .loop import Loop
from .member import Limits, Worker
from .output import Printer
from .setbacks import Setbacks
from .spawn import Ends, Nursery, Unborn, start_process
from .wire import Frame

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
        self._setbacks = Setbacks(loop, printer, self._fill)
        self._ears = self._listening()
        self._nursery = Nursery(loop, printer)
        self._nursery.on_born, self._nursery.on_lost = self._born_of, self._lost
        self._preload = False  # a template is worth it
        self._unfit = -1  # the code for which there can be none, by when that was imported
        self.no_template: str | None = None  # why
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
        return [worker for worker in self._workers.values() if not worker.is_template]

    @property
    def template(self) -> int | None:
        """The pid of the process that has loaded the app and forks the workers, if there is one."""
        return next((worker.pid for worker in self._workers.values() if worker.is_template), None)

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return self._asked if self._fixed is None else self._fixed

    @property
    def is_stuck(self) -> bool:
        """Whether every worker runs a task that waits for a job which no worker is free to run."""
        staying = [worker for worker in self._workers.values() if worker.is_staying]
        return not self._nursery.expected and all(worker.is_stuck for worker in staying)

    @property
    def trouble(self) -> str | None:
        """Why workers cannot start, from the first failure until one has loaded the app."""
        return self._setbacks.why

    # -- what the monitor wants ----------------------------------------------------------------------

    def is_newer(self, born: int) -> bool:
        """Whether code that was imported then is newer than what the workers have loaded."""
        return born > self._born

    @property
    def is_loading(self) -> bool:
        """Whether workers may come to know more tasks: in a moment, or when they can load the app again."""
        loads = any(worker.loads for worker in self._workers.values())
        return self._setbacks.trouble is not None or loads or self._nursery.expected > 0

    @property
    def python(self) -> str | None:
        """The interpreter of the workers."""
        return self._load["python"] if self._load else None

    def load(self, load: dict[str, Any], size: int, limits: Limits, born: int, preload: bool = False) -> None:
        """An app process has said how to load the app; `born` is when it imported its own code.

        preload: whether a template is to load it once for all workers, if that can be.

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
            self._setbacks.forget()
        self._born, self._asked, self.limits, self._preload = born, size, limits, preload
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
        if sum(worker.ready for worker in staying[: self.size]) == self.size:  # none comes to relieve these
            for worker in list(self._workers.values()):
                if worker.leaving and not worker.retiring:
                    self.retire(worker)
        template = self._nursery.template
        if template is not None and template.is_template and self.size == 1:
            self.retire(template)
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
        self._nursery.forget(worker)
        self._dispatch.worker_out(worker)
        if not worker.runs and not worker.reporting:
            self._dismiss(worker)

    def close(self, outcome: Outcome) -> None:
        """End all workers: at once where a job runs, politely where none does. `on_empty` tells when."""
        self._closing = True
        self._setbacks.stop()
        for worker in list(self._workers.values()):
            self._nursery.forget(worker)
            if worker.runs:
                worker.kill(outcome)
            elif worker.reporting:  # it says when it has done so
                worker.retiring = True
                self._loop.after(FAREWELL, lambda worker=worker: self._kill_if_alive(worker))  # type: ignore[misc]
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
            if pid not in self._workers:
                self._nursery.hear()
            if pid not in self._workers:
                os.waitpid(pid, 0)  # no worker, but what a worker or the template has left behind
                continue
            kill_group(pid)  # what its task has started; before the wait, while the id is surely its own
            status = os.waitpid(pid, 0)[1]
            self._buried(self._workers.pop(pid), describe_end(status))

    # -- the life of a worker --------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start as many workers as are missing."""
        if self._closing or self._load is None or self._setbacks.pausing:
            return
        staying = sum(worker.is_staying for worker in self._workers.values()) + self._nursery.expected
        try:
            for _ in range(self.size - staying):
                if not self._begin(self._load):
                    break
        except OSError as error:  # no process or descriptor to be had
            self._setbacks.add(f"could not be started ({error.strerror})")
        self.on_change(self.pids)

    def _begin(self, load: dict[str, Any]) -> bool:
        """Begin one worker; False where it waits for the template, which is loading the app."""
        template = self._nursery.template
        if template is None:
            self._start(load)
        elif template.loads:
            return False
        elif template.is_stale():
            self.retire(template)
            return self._begin(load)
        else:
            try:
                self._nursery.fork(template)
            except ConnectionError:  # it has just ended
                self.retire(template)
                self._start(load)
        return True

    def _start(self, load: dict[str, Any]) -> None:
        """Start a process that loads the app. The first one is to be the template of the others."""
        first = self._preload and self.size > 1 and self._unfit != self._born
        if first:
            adopt_orphans()  # a template's forks are to be children of this process
        ends = Ends(self._loop, self._printer)
        worker = self._enlist(start_process(load, ends), ends, self._born, load["main"])
        if first:
            self._nursery.template = worker
        head = {key: load[key] for key in LOAD_KEYS}
        worker.load({**head, "template": True} if first else head)

    def _enlist(self, pid: int, ends: Ends, born: int, main: dict[str, str] | None) -> Worker:
        worker = Worker(self._loop, pid, ends.channel, ends.shelf, ends.notice, ends.output)
        self._workers[pid] = worker
        worker.born, worker.main, worker.limits = born, main, self.limits
        worker.hear = ends.output.before = lambda: self._ears.hear(worker)
        worker.leave = lambda: self._left(worker)
        self._loop.watch(ends.channel, worker.hear)
        return worker

    def _born_of(self, pid: int, unborn: Unborn, frames: list[Frame]) -> None:
        """The template has forked a worker, which says what the template has loaded."""
        worker = self._enlist(pid, unborn.ends, unborn.template.born, unborn.template.main)
        worker.loads = 1
        self.on_change(self.pids)
        self._ears.heed(worker, frames)
        self._dispatch.go_on()
        self._fit()

    def _lost(self, template: Worker) -> None:
        """The template has not forked a worker that it was asked for: the next ones load the app."""
        self._give_up(template, "it has not forked a worker")
        self._setbacks.add("was not forked by the process that has loaded the app")

    def _give_up(self, template: Worker | None, reason: str) -> None:
        """No process that has loaded this code is to fork workers: each of them loads the app itself."""
        self._unfit, self.no_template = self._born, reason
        if template is not None and not template.retiring:
            self.retire(template)

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
        self._ears.hear(worker)  # a result may still lie in its channel
        self._dispatch.worker_ended(worker, how)
        worker.close()
        if not expected:
            if worker.ready:
                self._give_up(self._nursery.template, f"a process {how} that had loaded the app")
            in_vain = worker.ready and self._setbacks.trouble is None
            self._setbacks.add(how, "ended without a job" if in_vain else "cannot start")
        self.on_change(self.pids)
        if self._closing and not self._workers:
            self.on_empty()
        self._fill()

    # -- what workers say ------------------------------------------------------------------------------

    def _listening(self) -> Ears:
        ears = Ears(self._loop, self._dispatch, self._printer)
        ears.on_ready = self._ready
        ears.on_ask = lambda worker, frame: self.on_ask(worker, frame)
        ears.on_proven = self._prove
        ears.on_spent = self._left
        ears.on_used_up = lambda worker: self._fill()
        ears.on_done = self._dismiss
        return ears

    def _ready(self, worker: Worker, head: dict[str, Any]) -> None:
        worker.loads -= 1
        if "trouble" in head:
            self._setbacks.trouble = head["trouble"]
            return  # it ends by itself
        self._setbacks.loaded()
        worker.modules = frozenset(head["modules"])
        worker.files.update(head["files"])
        if worker.born != self._born and worker.is_stale():  # newer code came while this was loaded
            self.retire(worker)
            self._fill()
            return
        self.on_ready(head)
        self._heed_fitness(worker, head)
        if not worker.ready:
            worker.ready = True
            worker.output.take()  # what the app printed while it was loaded belongs to no job
            self._loop.after(SOUND, lambda: self._prove(worker))
            assert self._load is not None
            self.add_modules(self._load["modules"])  # those that came while it loaded
            if not worker.is_template:
                self._dispatch.worker_came(worker)
                self._relieve()

    def _heed_fitness(self, worker: Worker, head: dict[str, Any]) -> None:
        """What was to be the template says whether it can be, or why it is a worker as any other."""
        if worker is not self._nursery.template:
            return
        if head["unfit"] is None:
            worker.is_template, self.no_template = True, None
        elif worker.is_template:
            self._give_up(worker, head["unfit"])
        else:
            self._nursery.template = None
            self._give_up(None, head["unfit"])
        self._loop.call_soon(self._fill)

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
            self._setbacks.lived(worker.since)
