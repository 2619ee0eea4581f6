"""Calls in a transaction of the framework: its commit makes them, and after a rollback they never were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import NotCommitted
from .jobs import FINISHED, Job, now
from .results import Result

if TYPE_CHECKING:
    from .client import Client

REASON = "it was called in a transaction that has not been committed"


class Uncommitted:
    """Jobs that wait for a commit. Their Results know their ids, and ask this until they are stored.

    Raises `StoreError` at once if the store could not be used at the start of the app.
    """

    def __init__(self, jobs: Sequence[Job], client: Client) -> None:
        self._enqueue = client.enqueue
        self._client = client
        self._jobs = {job.id: job._replace(reason=REASON) for job in jobs}
        self.results = {job.id: Result[Any](job, self) for job in self._jobs.values()}

    def store(self) -> None:
        """Called after the commit."""
        jobs = [job._replace(reason=None) for job in self._jobs.values() if job.state not in FINISHED]
        if not jobs:
            return
        for job, job_id in zip(jobs, self._enqueue(jobs), strict=True):
            self.results[job.id].settle(job._replace(id=job_id), self._client)

    # -- what a Result asks -----------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        return self._jobs[job_id]

    def wait(self, job: Job, timeout: float | None) -> Job:
        job = self._jobs[job.id]
        if job.state in FINISHED:
            return job
        raise NotCommitted(
            f"the job {job.id} of {job.task} is not stored: {REASON}, or was rolled back."
            " Ask for its result after the commit, or call the task with options(on_commit=False)"
        )

    async def await_(self, job: Job) -> Job:
        return self.wait(job, None)

    def cancel(self, job_id: str, reason: str) -> bool:
        job = self._jobs[job_id]
        if job.state in FINISHED:
            return False
        self._jobs[job_id] = job._replace(state="cancelled", reason=reason, finished=now())
        return True
