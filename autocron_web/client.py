"""What a call of a task talks to: the store in an app process, or nothing at all in inline mode.

In a worker it is the pipe to the monitor: see `autocron_web.pool.worker`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ResultGone, StoreError
from .jobs import FINISHED, Job, failed, now, succeeded

if TYPE_CHECKING:
    from .link import Link
    from .store import Store

AGAIN = 5.0  # seconds between tries to open a store that could not be used at the start
POLL_LEAST, POLL_MOST = 0.01, 0.25  # seconds between looks at the store where no link can tell


class Reader(Protocol):
    """Tells what has become of jobs: what a Result needs. Usable from any thread."""

    def get(self, job_id: str) -> Job | None:
        """The job, or None if there is none (any more)."""
        ...

    def wait(self, job: Job, timeout: float | None) -> Job:
        """The job once it has finished, or as it is after `timeout` seconds."""
        ...

    async def await_(self, job: Job) -> Job:
        """The same without a timeout, in an event loop."""
        ...

    def cancel(self, job_id: str, reason: str) -> bool:
        """Cancel a waiting or running job."""
        ...


class Client(Reader, Protocol):
    """Also stores jobs."""

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        """Store the jobs; the id under which each of them stands now."""
        ...

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        """The newest jobs."""
        ...

    def progress(self, note: list[Any]) -> None:
        """What the running task says of its progress."""
        ...


class AsyncClient(Client, Protocol):
    """Stores jobs from an event loop without a thread of its executor: tasks may fill that."""

    async def aenqueue(self, jobs: Sequence[Job]) -> list[str]:
        """As `enqueue`."""
        ...


def present(found: Job | None, job: Job) -> Job:
    """What was found of a job that somebody waits for. Raises `ResultGone` where nothing was."""
    if found is None:
        raise ResultGone(
            f"the job {job.id} of {job.task} has been deleted: it had finished, and its result_ttl is over."
            " Ask for the result sooner, or give the task a longer result_ttl"
        )
    return found


class StoreClient:
    """An app process's client: writes to the store itself, so that a call depends on no other process."""

    def __init__(self, store: Store, link: Link) -> None:
        self._store = store
        self._link = link

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        ids = self._store.enqueue(jobs)
        self._link.wake(min(job.due for job in jobs))
        return ids

    def get(self, job_id: str) -> Job | None:
        return self._store.get(job_id)

    def wait(self, job: Job, timeout: float | None) -> Job:
        deadline = None if timeout is None else time.monotonic() + timeout
        news = threading.Event()
        pause = POLL_LEAST
        try:
            self._link.watch(job.id, news.set)
            while True:
                job = present(self._store.get(job.id), job)
                left = POLL_MOST if deadline is None else deadline - time.monotonic()
                if job.state in FINISHED or left <= 0:
                    return job
                # Whoever is not linked, or whose monitor dies now, still learns it by looking.
                pause = min(pause * 2, POLL_MOST)
                news.wait(min(left, 1.0 if self._link.connected else pause))
                news.clear()
        finally:
            self._link.unwatch(job.id, news.set)

    async def await_(self, job: Job) -> Job:
        import asyncio

        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def arrive() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:
                pass  # the loop was closed, and this coroutine never ended

        pause = POLL_LEAST
        try:
            self._link.watch(job.id, arrive)
            while True:
                found = await asyncio.to_thread(self._store.get, job.id)
                job = present(found, job)
                if job.state in FINISHED:
                    return job
                pause = min(pause * 2, POLL_MOST)
                try:
                    await asyncio.wait_for(arrived.wait(), 1.0 if self._link.connected else pause)
                except TimeoutError:
                    continue
                arrived.clear()
        finally:
            self._link.unwatch(job.id, arrive)

    def cancel(self, job_id: str, reason: str) -> bool:
        while not self._store.cancel(job_id, now(), reason):
            job = self._store.get(job_id)
            if job is None or job.state in FINISHED:
                return False
            if job.state == "running":
                return self._link.cancel(job_id)
        return True

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        return self._store.jobs(limit=limit, task=task, state=state)

    def progress(self, note: list[Any]) -> None:
        """Outside a job there is nothing to note: a task that is called directly says it to nobody."""


def run_here(job: Job) -> tuple[Job, BaseException | None]:
    """Run the job in this process: the job after that, and what the task has raised.

    What is not for the task but for the program goes on from here: Ctrl-C, and what ends a test of pytest.
    """
    from . import execution, reports
    from .tasks import registry

    outcome = execution.run(registry[job.task], job.id, job.codec, job.payload)
    head, error = outcome.head, outcome.error
    if error is not None and not isinstance(error, (Exception, SystemExit)):
        from asyncio import CancelledError

        if not isinstance(error, CancelledError):
            raise error
    if head["ok"]:
        return succeeded(job, now(), outcome.result, head["codec"], None, head.get("reason")), None
    # The pause before the next try is just as long as was said, as a test expects it.
    job = failed(job, now(), head["error_type"], head["error"], dice=lambda: 0.0)
    if job.state == "error" and error is not None:
        reports.call(job, error)
    return job, error


class InlineClient:
    """Runs each job at once in the caller; its Results are finished. For tests and a locked store."""

    def __init__(self) -> None:
        self._finished: dict[str, Job] = {}

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        for job in jobs:
            # There is no other try: the caller waits for this one.
            job, _ = run_here(job._replace(started=now(), attempt=1, meta={}))
            self._finished[job.id] = job
            while len(self._finished) > 10_000:
                del self._finished[next(iter(self._finished))]
        return [job.id for job in jobs]

    def get(self, job_id: str) -> Job | None:
        return self._finished.get(job_id)

    def wait(self, job: Job, timeout: float | None) -> Job:
        return present(self._finished.get(job.id), job)

    async def await_(self, job: Job) -> Job:
        return self.wait(job, None)

    def cancel(self, job_id: str, reason: str) -> bool:
        return False

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        found = [
            job
            for job in reversed(self._finished.values())
            if (task is None or job.task == task) and (state is None or job.state == state)
        ]
        return found[:limit]

    def progress(self, note: list[Any]) -> None:
        """Nobody can look at a job that runs inline."""


class BrokenClient:
    """After a `start()` whose store could not be used: the site goes on, and each call says why it cannot.

    start: what to do once more, every few seconds, if somebody calls: a disk may have room again.
    """

    def __init__(self, error: StoreError, start: Callable[[], object]) -> None:
        self.error = error
        self._start = start
        self._again = time.monotonic() + AGAIN

    def try_again(self) -> None:
        """Start once more if that is due. If it succeeds, the engine has another client."""
        if time.monotonic() >= self._again:
            self._again = time.monotonic() + AGAIN  # other threads need not try, too
            self._start()

    def __getattr__(self, name: str) -> Any:
        raise type(self.error)(str(self.error))
