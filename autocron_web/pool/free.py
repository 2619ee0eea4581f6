"""The workers that can take a job: idle ones, and those that run coroutines and have room beside them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..jobs import Job

if TYPE_CHECKING:
    from .member import Worker


class FreeWorkers:
    """Finds the worker for a job: the one that has been idle longest, or one that shares."""

    def __init__(self) -> None:
        self._idle: deque[Worker] = deque()
        self._sharing: list[Worker] = []  # their jobs run beside others
        self.concurrency: dict[str, int] = {}  # how many at once, of the tasks that share a worker

    @property
    def idle(self) -> int:
        """How many have no job."""
        return len(self._idle)

    @property
    def room(self) -> int:
        """How many more jobs those that share can take."""
        return sum(worker.room for worker in self._sharing)

    def add(self, worker: Worker) -> None:
        """The worker has no job."""
        if worker in self._sharing:
            self._sharing.remove(worker)
        self._idle.append(worker)

    def discard(self, worker: Worker) -> None:
        """The worker takes no more jobs."""
        if worker in self._idle:
            self._idle.remove(worker)
        if worker in self._sharing:
            self._sharing.remove(worker)

    def concurrency_of(self, job: Job) -> int:
        """How many such jobs may run at once in a worker.

        One whose worker has crashed runs alone: the next crash is then nobody else's.
        """
        return 1 if job.crashes else self.concurrency.get(job.task, 1)

    def has_room(self, concurrency: int) -> bool:
        """Whether one of those that share can take a job whose task allows so many at once."""
        return any(worker.has_room(concurrency) for worker in self._sharing)

    def take(self, job: Job) -> tuple[Worker, int] | None:
        """A worker for the job, and how many may run in that at once."""
        concurrency = self.concurrency_of(job)
        if concurrency > 1:
            for worker in self._sharing:
                if worker.has_room(concurrency):
                    return worker, concurrency
        if not self._idle:
            return None
        worker = self._idle.popleft()
        if concurrency > 1:
            self._sharing.append(worker)
        return worker, concurrency
