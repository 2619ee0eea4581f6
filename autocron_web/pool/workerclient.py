"""What calls of tasks inside a task talk to: they are asked of the monitor, which owns the store."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from ..client import present
from ..errors import AllWorkersWait, StoreError
from ..jobs import FINISHED, Job
from .line import Line
from .mainmodule import is_loading, reached
from .wire import Frame, Kind, pack_jobs, pieces, unpack_jobs

ASK_PAUSE = 0.1  # seconds between looks at a job that a task waits for
PATIENCE = 1.0  # seconds that all workers may wait for jobs that cannot begin
MORE_PATIENCE = 10.0  # the same, where a thread of the task waits, and others may go on
CONNECT = 2.0  # seconds that a monitor may take to accept a connection

#: The job to which this code belongs, where several run beside each other.
current_job: ContextVar[str | None] = ContextVar("current_job", default=None)


class WorkerClient:
    """What calls of tasks inside a task talk to: the monitor, which owns the store."""

    def __init__(self, line: Line) -> None:
        self._lines = [line]  # the last is this process's; the others are of those that it was forked from
        self.database = ""
        self._unstored: dict[str, Job] = {}  # calls of a main module that is loaded: they wait for ever
        self.alone: str | None = None  # the job that runs, if it does so alone

    @property
    def parent(self) -> str | None:
        """The job that calls."""
        return current_job.get() or self.alone

    def _line(self) -> Line:
        """The line of this process: one that a task has forked gets its own, and touches no other one."""
        line = self._lines[-1]
        if line.pid != os.getpid():
            from ..launch import connect

            try:
                line = Line(connect(self.database, CONNECT), is_workers=False)
            except OSError as error:
                raise StoreError(f"the pool of this process cannot be reached ({error.strerror})") from None
            self._lines.append(line)
        return line

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        if is_loading():
            return self._leave_unstored(jobs)
        ids: list[str] = []
        for head, blob in self._enqueuing(jobs):
            ids += self._line().ask(head, blob).head["ids"]
        return ids

    async def aenqueue(self, jobs: Sequence[Job]) -> list[str]:
        """The same in a coroutine."""
        if is_loading():
            return self._leave_unstored(jobs)
        ids: list[str] = []
        for head, blob in self._enqueuing(jobs):
            ids += (await self._line().ask_soon(head, blob)).head["ids"]
        return ids

    def _enqueuing(self, jobs: Sequence[Job]) -> Iterator[tuple[dict[str, Any], bytes]]:
        parent = self.parent
        for piece in pieces([job._replace(parent=parent) for job in jobs]):
            rows, blob = pack_jobs(piece)
            yield {"request": "enqueue", "jobs": rows}, blob

    def get(self, job_id: str) -> Job | None:
        if is_loading():
            return self._unstored.get(job_id)
        return self._found(job_id, self._line().ask(self._looking(job_id)))

    def _leave_unstored(self, jobs: Sequence[Job]) -> list[str]:
        """Store nothing, as a plain script would feed itself for ever."""
        self._unstored.update((job.id, job) for job in jobs)
        return [job.id for job in jobs]

    def _looking(self, job_id: str, patience: float | None = None) -> dict[str, Any]:
        """The request for a job; with a patience that of somebody who waits for it."""
        waits = {} if patience is None else {"patience": patience, "by": self.parent}
        return {"request": "get", "id": job_id, **waits}

    @staticmethod
    def _found(job_id: str, answer: Frame) -> Job | None:
        found = unpack_jobs(answer.head["jobs"], answer.blob)
        if "stuck" in answer.head:
            workers = answer.head["stuck"]
            raise AllWorkersWait(
                f"{found[0].task} (job {job_id}) cannot begin: each of the {workers} workers runs a task"
                " that waits for a job. Start more workers, or let the task end and another one go on"
            )
        return found[0] if found else None

    def wait(self, job: Job, timeout: float | None) -> Job:
        if current_job.get() is not None:
            import asyncio

            if asyncio._get_running_loop() is not None:
                raise RuntimeError("get() would hold up all jobs of this worker: await the Result instead")
        if is_loading():
            reached()  # it would wait for ever: its execution ends here
        deadline = None if timeout is None else time.monotonic() + timeout
        is_main = threading.current_thread() is threading.main_thread()
        request = self._looking(job.id, PATIENCE if is_main else MORE_PATIENCE)
        while True:
            job = present(self._found(job.id, self._line().ask(request)), job)
            left = ASK_PAUSE if deadline is None else deadline - time.monotonic()
            if job.state in FINISHED or left <= 0:
                return job
            time.sleep(min(left, ASK_PAUSE))

    async def await_(self, job: Job) -> Job:
        import asyncio

        if is_loading():
            reached()
        request = self._looking(job.id, PATIENCE)
        while True:
            job = present(self._found(job.id, await self._line().ask_soon(request)), job)
            if job.state in FINISHED:
                return job
            await asyncio.sleep(ASK_PAUSE)

    def cancel(self, job_id: str, reason: str) -> bool:
        if is_loading():
            return False
        return bool(self._line().ask({"request": "cancel", "id": job_id, "reason": reason}).head["cancelled"])

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        if is_loading():
            return []
        found: list[Job] = []
        more = True
        while more and len(found) < limit:
            before = found[-1].seq if found else None
            request = {"request": "jobs", "limit": limit - len(found), "task": task, "state": state}
            answer = self._line().ask({**request, "before": before})
            found += unpack_jobs(answer.head["jobs"], answer.blob)
            more = answer.head["more"]
        return found

    def progress(self, note: list[Any]) -> None:
        if not is_loading():
            request = {"request": "progress", "id": self.parent, "note": note}
            self._line().send(Frame(Kind.ASK, 0, request))
