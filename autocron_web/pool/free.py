"""The workers that can take a job: idle ones, those with room beside coroutines, those with a shelf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checks import is_span
from ..jobs import Job

if TYPE_CHECKING:
    from .member import Worker

SHORT = 0.005  # seconds: jobs of tasks that take no longer lie ready for workers
SHARE = 0.2  # of the newest job in the moving averages


class Pace:
    """How long jobs last: moving averages, in seconds."""

    def __init__(self) -> None:
        self.mean: float | None = None  # of all tasks; None before the first job
        self._of_task: dict[str, float] = {}

    def note(self, task: str, seconds: float) -> None:
        """A job of this task has ended, as its worker says: what is no span of time does not count."""
        if not is_span(seconds):
            return
        self.mean = seconds if self.mean is None else self.mean + SHARE * (seconds - self.mean)
        before = self._of_task.get(task, seconds)
        self._of_task[task] = before + SHARE * (seconds - before)

    def is_short(self, task: str) -> bool:
        """Whether the task's next job is probably short; one that has never run is not known to be."""
        return self._of_task.get(task, SHORT) < SHORT


class FreeWorkers:
    """Finds the worker for a job: the one that has been idle longest, one that shares, or a shelf.

    Whether a worker can take a job follows from what it does at that moment, and is noted nowhere else.
    """

    def __init__(self) -> None:
        self._workers: list[Worker] = []  # that have loaded the app
        self.concurrency: dict[str, int] = {}  # how many at once, of the tasks that share a worker
        self.pace = Pace()

    @property
    def idle(self) -> int:
        """How many have no job."""
        return sum(worker.is_idle for worker in self._workers)

    @property
    def room(self) -> int:
        """How many more jobs those that share can take."""
        return sum(worker.room for worker in self._workers)

    @property
    def lying(self) -> int:
        """How many jobs lie on shelves, or have ended since the last look."""
        return sum(worker.runs.behind for worker in self._workers)

    @property
    def stocked(self) -> list[Worker]:
        """Those with jobs on their shelves, or with ends of jobs that have not been read from there."""
        return [worker for worker in self._workers if worker.runs.behind]

    def add(self, worker: Worker) -> None:
        """The worker has come."""
        self._workers.append(worker)

    def discard(self, worker: Worker) -> None:
        """The worker has gone."""
        if worker in self._workers:
            self._workers.remove(worker)

    def concurrency_of(self, job: Job) -> int:
        """How many such jobs may run at once in a worker.

        One whose worker has crashed runs alone: the next crash is then nobody else's.
        """
        return 1 if job.crashes else self.concurrency.get(job.task, 1)

    def has_room(self, concurrency: int) -> bool:
        """Whether one of those that share can take a job whose task allows so many at once."""
        return any(worker.has_room(concurrency) for worker in self._workers)

    def find(self, job: Job) -> tuple[Worker, int] | None:
        """A worker that can begin the job now, and how many may run in that at once."""
        concurrency = self.concurrency_of(job)
        if concurrency > 1:
            for worker in self._workers:
                if worker.has_room(concurrency):
                    return worker, concurrency
        idle = [worker for worker in self._workers if worker.is_idle]
        return (min(idle, key=_last_move), concurrency) if idle else None

    @property
    def shelves(self) -> list[Worker]:
        """Those on whose shelves a short job can lie, the emptiest first."""
        return sorted((worker for worker in self._workers if worker.shelf_room > 0), key=_jobs)

    @property
    def has_shelves(self) -> bool:
        """Whether a short job can lie on one."""
        return any(worker.shelf_room > 0 for worker in self._workers)

    def is_short(self, job: Job) -> bool:
        """Whether the job may lie on a shelf: it is short as far as is known, and has done no harm."""
        return not job.crashes and self.pace.is_short(job.task) and self.concurrency.get(job.task, 1) == 1


def _jobs(worker: Worker) -> int:
    return len(worker.runs)


def _last_move(worker: Worker) -> float:
    return worker.moved
