"""The way of a job through the monitor: claimed from the store, handed to a worker, settled in the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..jobs import (
    RESULT_TTL,
    SECOND,
    UNKNOWN_TASK,
    Job,
    cancelled,
    crashed,
    failed,
    handed_back,
    now,
    succeeded,
)
from ..store import Store
from .free import FreeWorkers
from .loop import Loop, Timer
from .progress import Progress
from .storethread import StoreThread

if TYPE_CHECKING:
    from .member import Run, Worker

SHORT = 0.005  # seconds: only of jobs this short more are claimed than there are idle workers
AHEAD = 0.02  # seconds of work that may lie ready for one worker
MOST = 200  # jobs that may lie ready
COLLECT = 0.005  # seconds that outcomes of short jobs may be collected for one commit
PATIENCE = 0.05  # seconds after which jobs that no worker could take are handed back
LONGEST_SLEEP = 60.0  # seconds: then the wall clock is asked again, in case it was set


class Exchange(NamedTuple):
    """What one visit to the store brought."""

    claimed: list[Job]
    full: bool  # as many as asked for: there may be more
    next_due: int | None


class Dispatcher:
    """Owns every job between its claim and its settlement.

    One request to the store is under way at a time. What ends meanwhile is settled with the next
    one, in the same commit as the next claim: under load the batches grow by themselves.
    """

    def __init__(self, loop: Loop, store: StoreThread, owner: str, epoch: int) -> None:
        self._loop = loop
        self._store = store
        self._owner = owner
        self._epoch = epoch
        self._free = FreeWorkers()
        self._next: int | None = None  # the concurrency of the next job, if no worker could take that
        self._running: dict[str, tuple[Job, Worker]] = {}
        self._ready: deque[Job] = deque()  # claimed, and not handed over yet
        self._outcomes: list[Job] = []  # to be settled
        self._cancelled: dict[str, str] = {}  # reasons, of jobs that may be on their way from the store
        self._progress = Progress(loop, store, epoch, lambda jobs: self.on_news(jobs))
        self._visiting = False  # a request to the store is under way
        self._more = True  # there may be due jobs
        self._accepting = True
        self._mean = 1.0  # seconds that a job lasts: a moving average
        self._handed = 0  # jobs handed over so far
        self._handed_before = 0  # as of the last look at the jobs that lie ready
        self._patience: Timer | None = None
        self._collecting: Timer | None = None
        self._alarm: Timer | None = None
        self._known: frozenset[str] = frozenset()
        self.result_ttl = RESULT_TTL  # of jobs whose task does not say how long they are kept
        self.on_idle: Callable[[], None] = lambda: None  # no job runs, and all outcomes are written
        self.on_unknown: Callable[[str], None] = lambda task: None  # a job was claimed that nobody can run
        self.on_failure: Callable[[Job], None] = lambda job: None  # it ended in error without its worker
        self.on_news: Callable[[Iterable[Job]], None] = lambda jobs: None  # written: somebody may be waiting

    # -- what sets the dispatcher going --------------------------------------------------------------

    def wake(self, due: int = 0) -> None:
        """Jobs were stored, the first of them due then (microseconds)."""
        if due <= now():
            self._more = True
            self._visit()
        else:
            self._set_alarm(due)

    def learn(self, tasks: Iterable[str], concurrency: dict[str, int]) -> None:
        """The workers know these tasks: jobs that waited for one of them can run.

        concurrency: how many run at once in a worker, of the tasks of which it is more than one.
        """
        before, self._known = self._known, frozenset(tasks)
        self._free.concurrency = concurrency
        self._revive(self._known - before)

    def knows(self, task: str) -> bool:
        """Whether the workers know the task."""
        return task in self._known

    def accept(self, accepting: bool) -> None:
        """Whether jobs are claimed. What lies ready is handed back when not."""
        self._accepting = accepting
        if not accepting:
            self._hand_back()
        self.wake()

    @property
    def accepting(self) -> bool:
        """Whether jobs are claimed."""
        return self._accepting

    def jobs_of(self, worker: Worker) -> list[Job]:
        """What the worker has in hand."""
        return [self._running[job_id][0] for job_id in worker.runs]

    @property
    def running(self) -> int:
        """The number of jobs that workers have in hand."""
        return len(self._running)

    @property
    def busy(self) -> bool:
        """Whether a job runs or something is still to be written."""
        return bool(self._running or self._outcomes or self._visiting)

    def cancel(self, job_id: str, reason: str) -> bool:
        """Cancel a job that the store says is running, wherever it is now; False if it is not here."""
        entry = self._running.get(job_id)
        if entry is not None:
            entry[1].stop(job_id, reason, lambda job, moment: cancelled(job, moment, reason))
            return True
        for job in self._ready:
            if job.id == job_id:
                self._ready.remove(job)
                self._settle(cancelled(job, now(), reason))
                self._visit(collect=False)
                return True
        under_way = self._visiting or bool(self._outcomes)
        if under_way:
            self._cancelled[job_id] = reason
        return under_way

    # -- workers -------------------------------------------------------------------------------------

    def worker_free(self, worker: Worker) -> None:
        """The worker can take a job, or one more."""
        if not worker.runs:
            self._free.add(worker)
        self._hand_out()
        self._visit()

    def worker_out(self, worker: Worker) -> None:
        """The worker takes no more jobs."""
        self._free.discard(worker)

    def _settle_without_worker(self, job: Job) -> None:
        self._settle(job)
        if job.state == "error":
            self.on_failure(job)

    def worker_ended(self, worker: Worker, how: str) -> None:
        """The worker is gone, ended by the monitor or by itself: so are the jobs that it ran.

        If Python could still write where it crashed, the error shows it.
        """
        self.worker_out(worker)
        if not worker.runs:
            return
        output = worker.output.take()
        _, fatal, stack = (output or "").rpartition("Fatal Python error: ")
        stack = f"\n\n{fatal}{stack.rstrip()}" if fatal else ""
        for job_id in list(worker.runs):
            job, run = self._take(worker, job_id)
            outcome = run.verdict or worker.outcome
            if outcome is not None:
                job = outcome(job, now())
            else:
                job = crashed(job, now(), f"the worker {how} while it ran the job", stack)
            self._settle_without_worker(job._replace(output=output))
        self._visit()

    def result(self, worker: Worker, head: dict[str, Any], blob: bytes, output: str | None) -> None:
        """The worker has come to the end of a job."""
        job, run = self._take(worker, head["id"])
        if "unknown" in head:
            self._unlearn(job)
        elif run.verdict is not None:
            self._settle_without_worker(_judged(run.verdict(job, now()), head)._replace(output=output))
        elif head["ok"]:
            done = succeeded(job, now(), blob, head["codec"], output, head.get("reason"), self.result_ttl)
            self._settle(done)
        else:
            self._settle(failed(job, now(), head["error_type"], head["error"], output))
        self._mean += 0.2 * (head.get("seconds", 0.0) - self._mean)
        if worker.retiring or worker.reporting:
            self._visit()
        else:
            self.worker_free(worker)

    def progress(self, job_id: str, note: list[Any]) -> None:
        """The job has got on."""
        if job_id in self._running:
            job, worker = self._running[job_id]
            job = job._replace(meta={**job.meta, "progress": note})
            self._running[job_id] = (job, worker)
            self._progress.note(job)

    # -- the way of a job ----------------------------------------------------------------------------

    def _visit(self, *, collect: bool = True) -> None:
        """Settle what has ended, and claim what somebody could run: one commit."""
        if self._visiting:
            return
        limit = self._appetite()
        outcomes = self._outcomes
        if collect and outcomes and not limit and self._can_collect():
            return
        if not limit and not outcomes:
            if not self._running:
                self.on_idle()
            return
        self._visiting, self._outcomes = True, []
        if limit:
            self._more, self._next = False, None
        owner, epoch, moment = self._owner, self._epoch, now()

        def visit(store: Store) -> Exchange:
            if outcomes:
                store.settle(outcomes, epoch)
            jobs = store.claim(owner, epoch, limit, moment) if limit else []
            full = len(jobs) == limit
            return Exchange(jobs, full, None if full else store.next_due(moment))

        def visited(exchange: Exchange) -> None:
            self._visiting = False
            self._receive(exchange)
            if outcomes:
                self.on_news(outcomes)
                # Their task may have become known while the mark was on its way.
                self._revive({job.task for job in outcomes if job.reason == UNKNOWN_TASK})
            self._visit()

        # After a loss of power that undoes a claim the job waits, as it would if the claim were found.
        self._store.ask(visit, visited, durable=bool(outcomes))

    def _can_collect(self) -> bool:
        """While short jobs lie ready for the workers, their outcomes wait a moment for the next ones.

        A commit costs as much as dozens of them.
        """
        if not self._ready or len(self._outcomes) >= MOST:
            return False
        if self._collecting is None:
            self._collecting = self._loop.after(COLLECT, self._stop_collecting)
        return True

    def _stop_collecting(self) -> None:
        self._collecting = None
        self._visit(collect=False)

    def _appetite(self) -> int:
        """How many jobs to claim: one for each idle worker, and more if jobs last milliseconds.

        Workers whose jobs run beside others have room for more, unless the next one is of another kind: then
        it, and what is behind it, waits until a worker is idle. So the order holds, and nothing starves.
        """
        if not self._more or not self._accepting:
            return 0
        room = 0 if self._ready or self._next_must_wait() else self._free.room
        if not self._free.idle:
            return min(MOST, room)
        ahead = min(MOST, int(AHEAD / max(self._mean, 1e-6))) if self._mean < SHORT else 0
        return self._free.idle + room + ahead

    def _receive(self, exchange: Exchange) -> None:
        self._more = self._more or (exchange.full and bool(exchange.claimed))
        if exchange.next_due is not None:
            self._set_alarm(exchange.next_due)
        for job in exchange.claimed:
            if job.id in self._cancelled:
                self._settle(cancelled(job, now(), self._cancelled.pop(job.id)))
            elif job.task not in self._known:
                self._unlearn(job)
            else:
                self._ready.append(job)
        self._cancel_waiting()
        if self._accepting:
            self._hand_out()
        else:
            self._hand_back()
        if self._ready and self._patience is None:
            self._patience = self._loop.after(PATIENCE, self._lose_patience)

    def _unlearn(self, job: Job) -> None:
        """No worker knows the job's task, or not each of them: it waits until the next one has loaded it."""
        self._known -= {job.task}
        self._settle(handed_back(job, UNKNOWN_TASK))
        self.on_unknown(job.task)

    def _revive(self, tasks: Iterable[str]) -> None:
        known = sorted(self._known.intersection(tasks))
        if known:
            self._store.ask(
                lambda store: store.revive(known), lambda revived: self.wake() if revived else None
            )

    def _cancel_waiting(self) -> None:
        """What was to be cancelled and was not claimed was settled just now: it may wait for another try."""
        late, self._cancelled = self._cancelled, {}

        def cancel(store: Store) -> None:
            for job_id, reason in late.items():
                store.cancel(job_id, now(), reason)

        if late:
            self._store.ask(cancel)

    def _hand_out(self) -> None:
        """What lies ready, in its order, as far as there are workers for it."""
        while self._ready:
            job = self._ready[0]
            found = self._free.take(job)
            if found is None:
                return
            self._ready.popleft()
            worker, concurrency = found
            self._running[job.id] = (job, worker)
            self._handed += 1
            worker.run(job, concurrency)

    def _next_must_wait(self) -> bool:
        return self._next is not None and not self._free.has_room(self._next)

    def _take(self, worker: Worker, job_id: str) -> tuple[Job, Run]:
        self._progress.forget(job_id)
        return self._running.pop(job_id)[0], worker.runs.pop(job_id)

    def _settle(self, job: Job) -> None:
        self._outcomes.append(job)
        if job.state == "waiting" and job.reason is None:
            self._more = True  # or it is due later: then the claim finds nothing and answers with the moment

    # -- ready jobs, alarm ----------------------------------------------------------------------------

    def _lose_patience(self) -> None:
        """Hand back what lies ready if no worker became free since the last look: what runs now lasts."""
        self._patience = None
        if self._handed == self._handed_before:
            if self._ready:
                self._next = self._free.concurrency_of(self._ready[0])
            self._hand_back()
            self._visit()
        elif self._ready:
            self._patience = self._loop.after(PATIENCE, self._lose_patience)
        self._handed_before = self._handed

    def _hand_back(self) -> None:
        while self._ready:
            self._settle(handed_back(self._ready.popleft()))

    def _set_alarm(self, due: int) -> None:
        pause = min(max((due - now()) / SECOND, 0.0), LONGEST_SLEEP)
        if self._alarm is not None:
            if self._alarm.callback is not None and self._alarm.moment <= self._loop.time() + pause:
                return  # it rings earlier, and then asks again
            self._alarm.cancel()
        self._alarm = self._loop.after(pause, self.wake)


def _judged(job: Job, head: dict[str, Any]) -> Job:
    """A job that was stopped, and the line at which its task was."""
    if job.error is None or "error" not in head:
        return job
    reason, traceback = job.error, head["error"]
    return job._replace(error=traceback if reason in traceback else f"{traceback}\n\n{reason}")
