"""Tests of apps with background tasks: no pool, no process, no file, and a clock that is the test's own.

With pytest it is the fixture `autocron`, elsewhere the context manager `recording()`:

    def test_an_order_sends_a_mail(autocron, client):
        client.post("/orders")
        [call] = autocron.enqueued(send_mail)
        assert call.args == ("a@b.c", "Thank you!")
        autocron.drain()                    # runs it, here and now

docs/testing.md is the contract.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from . import execution, jobs, settings
from .client import run_here
from .decorators import crons
from .engine import engine
from .errors import JobFailed, ResultTimeout
from .jobs import FINISHED, SECOND, Job
from .memory import MemoryJobs
from .options import Options
from .results import Result
from .slots import due_slot, slot_job
from .tasks import Task, registry

__all__ = ["Enqueued", "Recording", "recording", "run_inline"]

MOST_RUNS = 10_000  # runs in one go, after which a test is told that its tasks feed themselves

_running: ContextVar[str | None] = ContextVar("autocron_running", default=None)


def run_inline() -> None:
    """From now on calls run at once, and `start()` starts nothing: for the test flags of frameworks.

    `AUTOCRON_MODE` goes before it. To be called before `start()`; the pytest plugin does it.
    """
    settings.default_mode = "inline"


class Enqueued(NamedTuple):
    """One call of a task, or one run of a cron, as it was stored."""

    task: str
    args: tuple[Any, ...]  # as the task gets them
    kwargs: dict[str, Any]
    options: dict[str, Any]  # those of `delay` that differ from the defaults, but for its delay: see `due`
    due: dt.datetime  # aware, UTC
    result: Result[Any]


class Recording:
    """What an app under test has enqueued, and the clock by which it runs. Made by `recording()`.

    The clock stands still at the moment at which the test began, until the test travels. It is that of
    jobs and crons only: for `datetime.now()` in the app's own code use a library such as time-machine.
    """

    def __init__(self) -> None:
        self._jobs = MemoryJobs()
        self._client = _Client(self)
        self._clock = jobs.wall_clock()
        self._last_slots: dict[str, int] = {}  # of the crons that were seen
        self._errors: dict[str, BaseException | None] = {}  # what each job raised last

    @property
    def now(self) -> dt.datetime:
        """What the test's clock shows (aware, UTC)."""
        return _date(self._clock)

    def enqueued(self, task: Task[..., Any] | Callable[..., Any] | str | None = None) -> list[Enqueued]:
        """All calls since the test began, whether they have run or not, in their order.

        task: only those of this task, of this cron's function, or of the task with this name.
        """
        name = _name_of(task)
        return [self._enqueued(job) for job in self._jobs.recorded if name in (None, job.task)]

    def drain(self, *, allow_errors: bool = False) -> list[Result[Any]]:
        """Run the jobs that are due, and those that they enqueue; their Results in the order of the runs.

        Raises `JobFailed` from the exception of the first of them that ended in an error, when all
        have run, unless `allow_errors`. One with retries left waits for its next try instead.
        """
        return self._finish(self._run_due(), allow_errors)

    def travel(
        self,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        allow_errors: bool = False,
    ) -> list[Result[Any]]:
        """Let time pass: what becomes due meanwhile runs at its moment, crons too. Otherwise as `drain`."""
        span = dt.timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self.travel_to(self.now + span, allow_errors=allow_errors)

    def travel_to(self, moment: dt.datetime, *, allow_errors: bool = False) -> list[Result[Any]]:
        """`travel` until then (a naive datetime is local time). Raises ValueError for what was before."""
        target = _micro(moment)
        if target < self._clock:
            raise ValueError(
                f"the test's clock shows {self.now} already, and {moment} was before:"
                " set_time() sets it back, and nothing runs"
            )
        self._see_crons()
        ran = self._run_due()
        while (event := self._next_event()) is not None and event <= target:
            self._clock = max(self._clock, event)
            self._see_crons()  # also those of modules that a task has imported
            self._take_slots()
            ran += self._run_due(len(ran))
        self._clock = target
        return self._finish(ran, allow_errors)

    def set_time(self, moment: dt.datetime) -> None:
        """Set the clock, forward or back, and run nothing: crons are as if seen for the first time then."""
        self._clock = _micro(moment)
        self._last_slots.clear()

    # -- the pool of this test -------------------------------------------------------------------------

    def _run_due(self, so_far: int = 0) -> list[Job]:
        ran: list[Job] = []
        while (job := self._jobs.claim(self._clock)) is not None:
            ran.append(self._run(job))
            if so_far + len(ran) > MOST_RUNS:
                raise RuntimeError(
                    f"{MOST_RUNS:,} jobs have run, {job.task} at last: do tasks enqueue themselves without"
                    " an end? To come to a later time without the crons in between use set_time()"
                )
        return ran

    def _run(self, job: Job) -> Job:
        token = _running.set(job.id)
        try:
            job, error = run_here(job)
        finally:
            _running.reset(token)
        self._errors[job.id] = error
        noted = self._jobs.get(job.id)  # with the progress that the task has said meanwhile
        return self._jobs.put(job._replace(meta={**(noted or job).meta, **job.meta}))

    def _run_until_finished(self, job: Job) -> Job:
        """What waits for a result lets run what is due, but no time passes."""
        while (found := self._jobs.get(job.id) or job).state not in FINISHED:
            due = self._jobs.claim(self._clock)
            if due is None:
                raise ResultTimeout(
                    f"{job.task} is {found.state}, due at {_date(found.due)}, and the test's clock stands"
                    f" at {self.now}: let the test travel before its result is asked for (job {job.id})"
                )
            self._run(due)
        return found

    def _finish(self, ran: list[Job], allow_errors: bool) -> list[Result[Any]]:
        for job in ran:
            if job.state == "error" and not allow_errors:
                raise JobFailed(f"{job.task} failed: {job.error}") from self._errors[job.id]
        return [Result(job, self._client) for job in ran]

    # -- crons -------------------------------------------------------------------------------------------

    def _see_crons(self) -> None:
        for name, cron in crons.items():
            if name not in self._last_slots:
                self._last_slots[name] = self._clock
                if cron.start_now:
                    self._take(name, self._clock + 1)

    def _take_slots(self) -> None:
        """As the pool's timetable does it."""
        for name, cron in crons.items():
            due = due_slot(
                cron.schedule,
                last_slot=_date(self._last_slots[name]),
                now=self.now,
                missed=cron.missed,
                catch_up=cron.catch_up,
            )
            if due.slot is not None:
                self._take(name, _micro(due.slot))

    def _take(self, name: str, slot: int) -> None:
        self._last_slots[name] = max(self._last_slots[name], slot)
        options = registry[name].defaults._replace(delay=0, schedule=None)
        self._jobs.enqueue([slot_job(crons[name], options, slot)])

    def _next_event(self) -> int | None:
        """The next moment at which a job or a slot is due."""
        slots = (cron.schedule.next_after(_date(self._last_slots[name])) for name, cron in crons.items())
        return min([*map(_micro, slots), *self._jobs.moments()], default=None)

    # -- what was enqueued ---------------------------------------------------------------------------------

    def _enqueued(self, job: Job) -> Enqueued:
        args, kwargs = execution.arguments(registry[job.task], job.id, job.codec, job.payload)
        return Enqueued(job.task, args, kwargs, _options_of(job), _date(job.due), Result(job, self._client))


@contextmanager
def recording() -> Iterator[Recording]:
    """Record calls of tasks instead of storing them, with a clock of its own; afterwards all is as before.

    class ShopTest(unittest.TestCase):
        def setUp(self):
            self.autocron = self.enterContext(autocron_web.testing.recording())
    """
    it = Recording()
    client, was_tested, clock = engine.exchange_client(it._client), engine.is_tested, jobs.clock
    engine.is_tested, jobs.clock = True, lambda: it._clock
    try:
        yield it
    finally:
        engine.exchange_client(client)
        engine.is_tested, jobs.clock = was_tested, clock


class _Client:
    """What calls of tasks talk to in a test."""

    def __init__(self, owner: Recording) -> None:
        self._owner = owner
        self._jobs = owner._jobs

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        return self._jobs.enqueue([job._replace(parent=_running.get()) for job in jobs])

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def wait(self, job: Job, timeout: float | None) -> Job:
        return self._owner._run_until_finished(job)

    async def await_(self, job: Job) -> Job:
        return self._owner._run_until_finished(job)

    def cancel(self, job_id: str, reason: str) -> bool:
        return self._jobs.cancel(job_id, self._owner._clock, reason)

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        newest = self._jobs.newest()
        return [job for job in newest if task in (None, job.task) and state in (None, job.state)][:limit]

    def progress(self, note: list[Any]) -> None:
        job = self._jobs.get(_running.get() or "")
        if job is not None:
            self._jobs.put(job._replace(meta={**job.meta, "progress": note}))


def _name_of(task: object) -> str | None:
    if task is None or isinstance(task, str):
        return task
    if isinstance(task, Task):
        return task.name
    for name, known in registry.items():
        if known.function is task:
            return name
    raise ValueError(f"{task!r} is no task: it is decorated neither by delay nor by cron or every")


def _options_of(job: Job) -> dict[str, Any]:
    """The options of `delay` that the job has, where they differ from the defaults."""
    unique = "task" if job.unique_key == job.task else "args" if job.unique_key else None
    given = {
        **job.meta,
        "queue": job.queue,
        "priority": job.priority,
        "unique": unique if job.kind == "call" else None,
        "expires": None if job.expires is None else (job.expires - job.due) / SECOND,
    }
    defaults = Options()
    return {word: value for word, value in given.items() if value != getattr(defaults, word)}


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _date(microseconds: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=microseconds)


def _micro(moment: dt.datetime) -> int:
    return (moment.astimezone(dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
