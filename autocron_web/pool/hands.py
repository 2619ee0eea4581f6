"""The jobs that were claimed and have not ended: ready, on shelves, in the hands of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..jobs import Job
from .free import SHORT, FreeWorkers
from .inflight import Run
from .loop import Loop, Timer

if TYPE_CHECKING:
    from .member import Worker

AHEAD = 0.02  # seconds of work that may lie ready
OVERHEAD = 0.00005  # seconds that a job costs beside its own work
MOST = 400  # jobs that may lie ready
LOOK = 0.003  # seconds between looks at what has become of jobs from shelves
PATIENCE = 0.05  # seconds after which jobs that no worker could take, or has come to, are taken back


class Hands:
    """Gives ready jobs to workers, in their order, and knows who has which.

    A job begins at once in a worker that can take it. Short ones also lie ready on the shelves of workers
    that run short ones, which take the next one without waiting for the monitor. If one turns out to take
    its time, those behind it are taken back, for other workers or for the store.
    """

    def __init__(self, loop: Loop, hand_back: Callable[[Job], None], go_on: Callable[[], None]) -> None:
        self._loop = loop
        self._hand_back = hand_back
        self._go_on = go_on  # there is something to hand out, to settle or to claim
        self.free = FreeWorkers()
        self.ready: deque[Job] = deque()  # not handed over yet
        self.running: dict[str, tuple[Job, Worker]] = {}  # with a worker, or on its shelf
        self._next: int | None = None  # the concurrency of the next job, if no worker could take that
        self._handed = 0  # jobs handed over so far
        self._handed_before = 0  # as of the last look at the jobs that lie ready
        self._patience: Timer | None = None
        self._look: Timer | None = None
        self._soon: Timer | None = None

    @property
    def is_stocked(self) -> bool:
        """Whether short jobs lie ready: there will be more outcomes in a moment."""
        return bool(self.ready) or self.free.lying > 0

    def appetite(self) -> int:
        """How many jobs to claim: one for each idle worker, and more if jobs last milliseconds.

        Workers whose jobs run beside others have room for more, unless the next one is of another kind: then
        it, and what is behind it, waits until a worker is idle. So the order holds, and nothing starves.
        """
        free, mean = self.free, self.free.pace.mean
        must_wait = bool(self.ready) or (self._next is not None and not free.has_room(self._next))
        at_once = min(MOST, free.idle + (0 if must_wait else free.room))
        if mean is None or mean >= SHORT or not (free.idle or free.has_shelves):
            return at_once
        most = min(MOST, int(AHEAD / (mean + OVERHEAD)))
        missing = most - len(self.ready) - free.lying
        return at_once + missing if 2 * missing > most else at_once

    def hand_out(self) -> None:
        """What lies ready, in its order, as far as there are workers for it."""
        woken = []
        while self.ready:
            found = self.free.find(self.ready[0])
            if found is None:
                break
            worker, concurrency = found
            job = self._give(worker)
            worker.run(job, concurrency, is_short=self.free.is_short(job))
            woken.append(worker)
        self._stock()
        for worker in woken:  # now, as each finds its shelf full
            worker.flush()
        if self.ready and self._patience is None:
            self._patience = self._loop.after(PATIENCE, self._lose_patience)

    def hand_back(self) -> None:
        """Nothing is to lie ready, not even on a shelf."""
        for worker in self.free.stocked:
            self.take_back(worker)
        while self.ready:
            self._hand_back(self.ready.popleft())
        self._look_soon()  # at how those have ended that a worker had taken by itself

    def take(self, worker: Worker, job_id: str) -> tuple[Job, Run]:
        """The worker tells on its line that the job has ended."""
        run = worker.ended(job_id)
        return self.running.pop(job_id)[0], run

    def take_from_shelf(self, worker: Worker, job_id: str) -> tuple[Job, Run]:
        """It tells so on its shelf, and runs the next one."""
        run = worker.ended_on_shelf(job_id)
        return self.running.pop(job_id)[0], run

    def take_from_dead(self, worker: Worker) -> list[tuple[Job, Run]]:
        """What the worker had begun when it ended. It is none any more."""
        self.take_back(worker)
        self.free.discard(worker)
        return [(self.running.pop(job_id)[0], worker.runs.abandon(job_id)) for job_id in worker.runs.begun]

    def let_go_on(self, worker: Worker) -> None:
        """A job has ended on the line, so the worker takes nothing from its shelf by itself any more."""
        if worker.runs.prefetched:
            if worker.is_available:
                worker.begin_next()
            else:
                self.take_back(worker)

    def take_back(self, worker: Worker) -> None:
        """What lies on its shelf is ready again, before all others."""
        for job_id in reversed(worker.take_back()):
            self.ready.appendleft(self.running.pop(job_id)[0])
        if self.ready and (self._soon is None or self._soon.callback is None):
            self._soon = self._loop.after(0, self._go_on)

    def forget_next(self) -> None:
        """Jobs are claimed anew: whatever comes first then."""
        self._next = None

    def _give(self, worker: Worker) -> Job:
        job = self.ready.popleft()
        self.running[job.id] = job, worker
        self._handed += 1
        return job

    def _stock(self) -> None:
        """Lay short jobs on shelves, in their order, by turns."""
        shelves = deque(self.free.shelves if self.ready else ())
        while shelves and self.ready and self.free.is_short(self.ready[0]):
            if shelves[0].put(self.ready[0]):
                self._give(shelves[0])
                shelves.rotate(-1)
            else:
                shelves.popleft()
        self._look_soon()

    def _look_soon(self) -> None:
        if self._look is None and self.free.lying:
            self._look = self._loop.after(LOOK, self._look_at_shelves)

    def _look_at_shelves(self) -> None:
        self._look = None
        for worker in self.free.stocked:
            worker.hear()
            if worker.rests_for > PATIENCE:
                self.take_back(worker)
        self._go_on()

    def _lose_patience(self) -> None:
        """Hand back what lies ready if no worker took any since the last look: what runs now lasts."""
        self._patience = None
        if self._handed == self._handed_before:
            if self.ready:
                self._next = self.free.concurrency_of(self.ready[0])
            self.hand_back()
            self._go_on()
        elif self.ready:
            self._patience = self._loop.after(PATIENCE, self._lose_patience)
        self._handed_before = self._handed
