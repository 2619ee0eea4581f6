"""Jobs in memory, for tests: claims and unique keys are those of every store."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .jobs import FINISHED, Job, cancelled
from .tasks import registry


class MemoryJobs:
    """The jobs of one test. Usable from any thread."""

    def __init__(self) -> None:
        self.recorded: list[Job] = []  # as they were enqueued
        self._by_id: dict[str, Job] = {}
        self._unfinished: dict[str, Job] = {}
        self._lock = threading.Lock()

    def enqueue(self, new: Sequence[Job]) -> list[str]:
        with self._lock:
            return [self._add(job) for job in new]

    def _add(self, job: Job) -> str:
        if job.id in self._by_id:
            return job.id
        if job.unique_key is not None:
            for other in list(self._unfinished.values()):
                if other.unique_key == job.unique_key:
                    if other.state != "waiting" or other.expires is None or other.expires > job.created:
                        return other.id
                    self._put(cancelled(other, job.created, "expired"))
        job = job._replace(seq=len(self.recorded))
        self.recorded.append(job)
        return self._put(job).id

    def get(self, job_id: str) -> Job | None:
        return self._by_id.get(job_id)

    def put(self, job: Job) -> Job:
        with self._lock:
            return self._put(job)

    def _put(self, job: Job) -> Job:
        self._by_id[job.id] = job
        if job.state in FINISHED:
            self._unfinished.pop(job.id, None)
        else:
            self._unfinished[job.id] = job
        return job

    def newest(self) -> list[Job]:
        with self._lock:
            return list(reversed(self._by_id.values()))

    def claim(self, moment: int) -> Job | None:
        """The next due job, which runs now. What has expired is cancelled."""
        with self._lock:
            for job in self._waiting():
                if job.expires is not None and job.expires <= moment:
                    self._put(cancelled(job, moment, "expired"))
            due = [job for job in self._waiting() if job.due <= moment]
            if not due:
                return None
            job = min(due, key=lambda job: (-job.priority, job.due, job.seq))
            return self._put(job._replace(state="running", started=moment, attempt=job.attempt + 1))

    def cancel(self, job_id: str, moment: int, reason: str) -> bool:
        with self._lock:
            job = self._unfinished.get(job_id)
            if job is None or job.state != "waiting":
                return False
            self._put(cancelled(job, moment, reason))
            return True

    def moments(self) -> list[int]:
        """When the waiting jobs are due."""
        with self._lock:
            return [job.due for job in self._waiting()]

    def _waiting(self) -> list[Job]:
        """Those that can run; one of a task that is gone waits for it, as in a pool."""
        return [job for job in self._unfinished.values() if job.state == "waiting" and job.task in registry]
