"""The way of a job through the monitor: claimed from the store, handed to a worker, settled in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..jobs import (
    FINISHED,
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
from .hands import MOST, Hands
from .loop import Loop, Timer
from .progress import Progress
from .settling import settle_alone
from .storethread import StoreThread

if TYPE_CHECKING:
    from .member import Worker
    from .shelf import Done

AGAIN = 5.0  # seconds between visits to the store where one fails by itself
COLLECT = 0.005  # seconds that outcomes of short jobs may be collected for one commit
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
        self._hands = Hands(loop, lambda job: self._settle(handed_back(job)), self.go_on)
        self._outcomes: list[Job] = []  # to be settled
        self._claimed: set[str] = set()  # the jobs that have no outcome yet
        self._written: list[Job] = []  # outcomes that are on their way to the store
        self._cancelled: dict[str, str] = {}  # reasons, of jobs that may be on their way from the store
        self._progress = Progress(loop, store, epoch, lambda jobs: self.on_news(jobs))
        self._visiting = False  # a request to the store is under way
        self._more = True  # there may be due jobs
        self._accepting = True
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
        self._hands.free.concurrency = concurrency
        self._revive(self._known - before)

    def knows(self, task: str) -> bool:
        """Whether the workers know the task."""
        return task in self._known

    def accept(self, accepting: bool) -> None:
        """Whether jobs are claimed. What lies ready is handed back when not."""
        self._accepting, self._more = accepting, True
        self.go_on()

    @property
    def accepting(self) -> bool:
        """Whether jobs are claimed."""
        return self._accepting

    def jobs_of(self, worker: Worker) -> list[Job]:
        """What the worker runs, the oldest first."""
        return [self._hands.running[job_id][0] for job_id in worker.runs.begun]

    @property
    def running(self) -> int:
        """The number of jobs that workers have in hand."""
        return len(self._hands.running)

    @property
    def busy(self) -> bool:
        """Whether a job runs or something is still to be written."""
        return bool(self.running or self._outcomes or self._visiting)

    def cancel(self, job_id: str, reason: str) -> bool:
        """Cancel a job that the store says is running, wherever it is now; False if it is not here."""
        hands = self._hands
        if job_id in hands.running and job_id not in hands.running[job_id][1].runs.begun:
            hands.take_back(hands.running[job_id][1])
        if job_id in hands.running:
            worker = hands.running[job_id][1]
            worker.stop(job_id, reason, lambda job, moment: cancelled(job, moment, reason))
            return True
        for jobs in (hands.ready, self._outcomes):
            for job in jobs:
                if job.id == job_id and job.state not in FINISHED:
                    jobs.remove(job)
                    self._settle(cancelled(job, now(), reason))
                    self._place()
                    self._visit(collect=False)
                    return True
        if self._visiting:  # to wait, or as claimed
            self._cancelled[job_id] = reason
        return any(job.id == job_id and job.state not in FINISHED for job in self._written)

    # -- workers -------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Something has changed: hand out what is ready, settle what has ended, claim what could run."""
        self._place()
        self._visit()

    def _place(self) -> None:
        if self._accepting:
            self._hands.hand_out()
        else:
            self._hands.hand_back()

    def worker_came(self, worker: Worker) -> None:
        """The worker has loaded the app. Whether it can take a job, it says itself from now on."""
        self._hands.free.add(worker)
        self.go_on()

    def worker_out(self, worker: Worker) -> None:
        """The worker takes no more jobs: not even those that lie ready for it."""
        self._hands.take_back(worker)

    def _settle_without_worker(self, job: Job) -> None:
        self._settle(job)
        if job.state == "error":
            self.on_failure(job)

    def worker_ended(self, worker: Worker, how: str) -> None:
        """The worker is gone, ended by the monitor or by itself: so are the jobs that it ran.

        If Python could still write where it crashed, the error shows it.
        """
        if worker.untold is not None:
            self.on_failure(worker.untold)
        jobs = self._hands.take_from_dead(worker)
        output = worker.output.take() if jobs else None
        _, fatal, stack = (output or "").rpartition("Fatal Python error: ")
        stack = f"\n\n{fatal}{stack.rstrip()}" if fatal else ""
        for job, run in jobs:
            self._progress.forget(job.id)
            outcome = run.verdict or worker.outcome
            if outcome is not None:
                job = outcome(job, now())
            else:
                job = crashed(job, now(), f"the worker {how} while it ran the job", stack)
            self._settle_without_worker(job._replace(output=output))
        self.go_on()

    def result(self, worker: Worker, head: dict[str, Any], blob: bytes, output: str | None) -> None:
        """The worker has come to the end of a job, and tells on its line. What follows is for `go_on`."""
        job, run = self._hands.take(worker, head["id"])
        self._progress.forget(job.id)
        if run.verdict is not None:
            self._settle_without_worker(_judged(run.verdict(job, now()), head)._replace(output=output))
        elif "unknown" in head:
            self._unlearn(job)
        elif head["ok"]:
            done = succeeded(job, now(), blob, head["codec"], output, head.get("reason"), self.result_ttl)
            self._settle(done)
        else:
            self._settle(failed(job, now(), head["error_type"], head["error"], output))
        if "reporting" in head:  # of one with a verdict another worker is told anyway
            worker.report(None if run.verdict is not None else self._outcomes[-1])
        self._hands.free.pace.note(job.task, head.get("seconds", 0.0))
        self._hands.let_go_on(worker)

    def done(self, worker: Worker, ends: list[Done]) -> None:
        """The worker has come to the end of jobs from its shelf. What follows is for `go_on`."""
        moment = now()
        for end in ends:
            job, run = self._hands.take_from_shelf(worker, end.id)
            self._progress.forget(job.id)
            output = worker.output.drained()
            if run.verdict is not None:
                self._settle_without_worker(run.verdict(job, moment)._replace(output=output))
            else:
                self._settle(succeeded(job, moment, end.result, end.codec, output, None, self.result_ttl))
            self._hands.free.pace.note(job.task, end.seconds)

    def progress(self, job_id: str, note: list[Any]) -> None:
        """The job has got on."""
        running = self._hands.running
        if job_id in running:
            job, worker = running[job_id]
            job = job._replace(meta={**job.meta, "progress": note})
            running[job_id] = (job, worker)
            self._progress.note(job)

    # -- the way of a job ----------------------------------------------------------------------------

    def _visit(self, *, collect: bool = True) -> None:
        """Settle what has ended, and claim what somebody could run: one commit."""
        if self._visiting:
            return
        limit = self._hands.appetite() if self._more and self._accepting else 0
        outcomes = self._outcomes
        if collect and outcomes and not limit and self._can_collect():
            return
        if not limit and not outcomes:
            if not self.running:
                self.on_idle()
            return
        self._visiting, self._outcomes, self._written = True, [], outcomes
        if limit:
            self._more = False
            self._hands.forget_next()
        self._ask_store(outcomes, limit)

    def _ask_store(self, outcomes: list[Job], limit: int) -> None:
        owner, epoch, moment = self._owner, self._epoch, now()
        answered = False

        def visit(store: Store) -> Exchange:
            if outcomes:
                store.settle(outcomes, epoch)
            jobs = store.claim(owner, epoch, limit, moment) if limit else []
            full = len(jobs) == limit
            return Exchange(jobs, full, None if full else store.next_due(moment))

        def visited(exchange: Exchange) -> None:
            nonlocal answered
            answered, self._visiting, self._written = True, False, []
            self._claimed.update(job.id for job in exchange.claimed)
            self._receive(exchange)
            self._place()
            if outcomes:
                self._loop.guard(lambda: self.on_news(outcomes))
                # Their task may have become known while the mark was on its way.
                self._revive({job.task for job in outcomes if job.reason == UNKNOWN_TASK})
            self.go_on()

        def failed(error: Exception) -> None:
            """By itself, not for a store that cannot be used; then it is found out for which job."""
            if not answered:
                self._visiting, self._written = False, []
                settle_alone(self._store, outcomes, epoch, self._settled_alone)
            self._loop.after(AGAIN, self.wake)
            raise error  # so that it is told

        # After a loss of power that undoes a claim the job waits, as it would if the claim were found.
        self._store.ask(visit, visited, failed=failed, durable=bool(outcomes))

    def _settled_alone(self, job: Job) -> None:
        self.on_news([job])
        self.go_on()

    def is_sound(self, pids: Iterable[int]) -> bool:
        """Whether each job that was claimed is somewhere: in a living worker (of these pids), or ready.

        Asked after something has failed, as one that got lost in it would count as running for ever.
        """
        alive, running = set(pids), self._hands.running
        held = {
            job_id for job_id, (_, worker) in running.items() if worker.pid in alive and job_id in worker.runs
        }
        return len(held) == len(running) and self._claimed <= held | {job.id for job in self._hands.ready}

    def _can_collect(self) -> bool:
        """While short jobs lie ready for the workers, their outcomes wait a moment for the next ones.

        A commit costs as much as dozens of them.
        """
        if not self._hands.is_stocked or 2 * len(self._outcomes) >= MOST:
            return False
        if self._collecting is None:
            self._collecting = self._loop.after(COLLECT, self._stop_collecting)
        return True

    def _stop_collecting(self) -> None:
        self._collecting = None
        self._visit(collect=False)

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
                self._hands.ready.append(job)
        self._cancel_waiting()

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

    def _settle(self, job: Job) -> None:
        self._claimed.discard(job.id)
        self._outcomes.append(job)
        if job.state == "waiting" and job.reason is None:
            self._more = True  # or it is due later: then the claim finds nothing and answers with the moment

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
