"""The workers as processes: started, fed, watched, replaced and ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..jobs import interrupted
from ..process import adopt_orphans, describe_end, kill_group, memory_of
from . import room
from .dispatch import Dispatcher
from .ears import Ears
from .inflight import Outcome
from .limits import Memory
from .loop import Loop
from .member import Worker
from .output import Printer
from .setbacks import Setbacks
from .spawn import Ends, Nursery, Unborn, start_process
from .told import Told, Word
from .wire import Frame, WireError

LOAD_KEYS = ("path", "argv", "cwd", "main", "loader", "database")  # of the hello, for the worker
SOUND = 5.0  # seconds without an end after which a worker counts as one that can live
FAREWELL = 2.0  # seconds that a worker without a job may take for its own end


class Crew:
    """Keeps the set number of workers alive, all of them loaded with the newest app that lives."""

    def __init__(self, loop: Loop, dispatch: Dispatcher, printer: Printer, told: Told) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._printer = printer
        self._workers: dict[int, Worker] = {}  # by pid
        self._told = told
        self._word: Word | None = None  # the one that ruled at the last look
        self._fixed: int | None = None  # the size that somebody has set for the store
        self._setbacks = Setbacks(loop, printer, self._fill)
        self._memory = Memory(printer, self._setbacks)
        self._ears = self._listening()
        self._nursery = Nursery(loop, printer)
        self._nursery.on_born, self._nursery.on_lost = self._born_of, self._lost
        self._unfit = -1  # the code for which there can be none, by when that was imported
        self.no_template: str | None = None  # why
        self._closing = False
        self.held: str | None = None  # why no worker is started yet
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
        asked = 0 if self._word is None else self._word.size
        return asked if self._fixed is None else self._fixed

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

    @property
    def is_loading(self) -> bool:
        """Whether workers may come to know more tasks: in a moment, or when they can load the app again."""
        workers = self._workers.values()
        if self._setbacks.trouble is not None or any(worker.loads for worker in workers):
            return True
        return self._nursery.expected > 0 or not any(worker.ready for worker in workers)

    def follow(self) -> None:
        """App processes have said hello or ended: another word may rule, and workers follow it.

        Where that is of other code, each worker is replaced after its job unless it would be loaded alike and
        none of its files has changed since it read them. A fork of a process (a preloading server's) has the
        same code as that, whatever the files say now, and replaces nothing.
        """
        word = self._told.ruling
        if word is None:
            return
        before, self._word = self._word, word
        if before is not None and before.born != word.born:
            for worker in list(self._workers.values()):
                if worker.retiring:
                    continue
                if not self._fits(worker):
                    self.retire(worker)
                elif worker.ready:  # else it is looked at again then
                    worker.word = word
            self._setbacks.forget()
            self._nursery.edited = False
            self._memory = Memory(self._printer, self._setbacks)
        for worker in self._workers.values():
            worker.limits = word.limits
        self._memory.look_at(self.workers)
        self.add_modules()
        self._fit()

    def _fits(self, worker: Worker) -> bool:
        """Whether the worker has loaded what the ruling word says."""
        assert self._word is not None
        if worker.word.born == self._word.born:
            return True
        return worker.word.loads_like(self._word) and not worker.is_stale()

    def hold(self, seconds: float, why: str) -> None:
        """Start no worker for so long, so that no job runs either."""
        self.held = why
        self._loop.after(seconds, self._go)

    def _go(self) -> None:
        self.held = None
        self._fill()

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

    def add_modules(self) -> None:
        """More modules may have registered tasks in the app: workers that have not imported them do so."""
        assert self._word is not None
        modules, others = self._told.modules, self._told.others
        main = self._word.load["main"]
        for worker in [worker for worker in self._workers.values() if not worker.retiring]:
            if self._told.needs_main and worker.main != main:  # that of another program
                self.retire(worker)
            elif worker.ready and not worker.modules.issuperset([*modules, *others]):
                missing = [
                    [name for name in names if name not in worker.modules] for names in (modules, others)
                ]
                worker.load({"modules": missing[0], "others": missing[1]})
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
            worker, how = self._workers.pop(pid), describe_end(status)
            self._loop.guard(lambda worker=worker, how=how: self._buried(worker, how))  # type: ignore[misc]

    # -- the life of a worker --------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start as many workers as are missing."""
        if self._closing or self._word is None or self.held or self._setbacks.pausing:
            return
        size, shortage = min(self.size, room.most_workers()), room.shortage(self.size)
        try:
            while self._coming < size and self._begin(self._word):
                pass
            self._setbacks.lasts("shortage", shortage)
        except OSError as error:  # no process or descriptor to be had
            running = f"{self._coming} of {self.size} workers run, and it is tried again, at most every 30 s"
            self._setbacks.lasts("shortage", f"a worker cannot start ({error.strerror}): {running}")
            self._setbacks.wait()
        self.on_change(self.pids)

    @property
    def _coming(self) -> int:
        """How many workers there are, or will be in a moment."""
        return sum(worker.is_staying for worker in self._workers.values()) + self._nursery.expected

    def _begin(self, word: Word) -> bool:
        """Begin one worker; False where it waits for the template, which loads the app, perhaps again."""
        template = self._nursery.template
        if template is None:
            self._start(word)
        elif template.loads:
            return False
        elif edited := template.edited_files():
            self.retire(template)
            self._setbacks.reload(min(edited))
            return False
        else:
            try:
                self._nursery.fork(template)
            except ConnectionError:  # it has just ended
                self.retire(template)
                self._start(word)
        return True

    def _start(self, word: Word) -> None:
        """Start a process that loads the app. The first one is to be the template of the others."""
        first = word.preload and self.size > 1 and self._unfit != word.born
        if first:
            adopt_orphans()  # a template's forks are to be children of this process
        ends = Ends(self._loop, self._printer)
        worker = self._enlist(start_process(word.load, ends), ends, word, word.load["main"])
        if first:
            self._nursery.template = worker
        head = {key: word.load[key] for key in LOAD_KEYS}
        head |= {"modules": self._told.modules, "others": self._told.others}
        worker.load({**head, "template": True} if first else head)

    def _enlist(self, pid: int, ends: Ends, word: Word, main: dict[str, str] | None) -> Worker:
        worker = Worker(self._loop, pid, ends.channel, ends.shelf, ends.notice, ends.output, word)
        self._workers[pid] = worker
        worker.main = main
        if self._word is not None:
            worker.limits = self._word.limits
        worker.hear = ends.output.before = lambda: bool(
            self._loop.guard(lambda: self._ears.hear(worker), lambda: self._fail(worker))
        )
        worker.leave = lambda: self._left(worker)
        self._loop.watch(ends.channel, worker.hear)
        return worker

    def _fail(self, worker: Worker) -> None:
        """What it has said could not be obeyed, which may be no fault of its job: that waits again."""
        self._loop.unwatch(worker.channel)
        worker.kill(interrupted)

    def _born_of(self, pid: int, unborn: Unborn, frames: list[Frame]) -> None:
        """The template has forked a worker, which says what the template has loaded."""
        worker = self._enlist(pid, unborn.ends, unborn.template.word, unborn.template.main)
        worker.loads = 1
        self.on_change(self.pids)
        self._loop.guard(lambda: self._ears.heed(worker, frames), lambda: self._fail(worker))
        self._dispatch.go_on()
        self._fit()

    def _lost(self, template: Worker) -> None:
        """The template has not forked a worker that it was asked for: the next ones load the app."""
        self._give_up(template, "it has not forked a worker")
        self._setbacks.add("was not forked by the process that has loaded the app")

    def _give_up(self, template: Worker | None, reason: str) -> None:
        """No process that has loaded this code is to fork workers: each of them loads the app itself."""
        assert self._word is not None
        self._unfit, self.no_template = self._word.born, reason
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
        worker.hear()  # a result may still lie in its channel
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
        ears.on_used_up = self._used_up
        ears.on_done = self._dismiss
        return ears

    def _ready(self, worker: Worker, head: dict[str, Any]) -> None:
        if worker.loads < 1:
            raise WireError("it says that it has loaded what it was not told to load")
        worker.loads -= 1
        if "trouble" in head:
            self._setbacks.trouble = head["trouble"]
            return  # it ends by itself
        self._setbacks.loaded()
        worker.modules = frozenset(head["modules"])
        worker.files.update(head["files"])
        self._nursery.note_edits(worker)
        if not self._fits(worker):  # other code came while this was loaded
            self.retire(worker)
            self._fill()
            return
        assert self._word is not None
        worker.word = self._word  # its files need not be looked at again for this one
        self.on_ready(head)
        self._heed_fitness(worker, head)
        if not worker.ready:
            worker.ready, worker.loaded = True, memory_of(worker.pid)
            self._memory.look_at(self.workers)
            worker.output.take()  # what the app printed while it was loaded belongs to no job
            self._loop.after(SOUND, lambda: self._prove(worker))
            self.add_modules()  # those that came while it loaded
            if not worker.is_template:
                self._dispatch.worker_came(worker)
                self._relieve()

    def _used_up(self, worker: Worker) -> None:
        self._memory.used_up(worker)
        self._fill()

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
