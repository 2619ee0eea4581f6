"""`on_error`: functions of the app that are told of each job that has failed for good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .jobs import Job, new_id, now
from .settings import importable

if TYPE_CHECKING:
    import datetime

#: The task that reports a job whose own worker could not, because it was gone.
LATE_REPORT = "autocron_web.late_report"


class FailedJob(NamedTuple):
    """What a function given to `on_error` is told of the job."""

    id: str
    task: str
    queue: str
    attempt: int
    created: datetime.datetime  # aware, UTC
    error_type: str
    error: str  # the traceback


Report = Callable[[FailedJob, BaseException], Any]
F = TypeVar("F", bound=Report)

_reports: list[Report] = []
modules: set[str] = set()  # that have called `on_error`, by the names that workers are told


def on_error(report: F) -> F:
    """Let a function be told of each job that ends in `error`; also a decorator. Called in a worker.

    report: called as `report(job, error)` with a `FailedJob` and the exception, once there is no try left. Of
        a job that was ended with its worker (a crash, a timeout) the error is a `JobFailed` or a
        `TimeoutError` without a traceback, and another worker calls it.

    What it raises is logged, and changes nothing of the job. It may take 30 seconds.

        @autocron.on_error
        def tell_sentry(job: autocron.FailedJob, error: BaseException) -> None:
            sentry_sdk.set_tag("task", job.task)
            sentry_sdk.capture_exception(error)
    """
    from .engine import engine

    module = importable(sys._getframe(1).f_globals.get("__name__", "__main__"))
    modules.add(module)
    _reports.append(report)
    engine.registered(module)
    return report


def wanted() -> bool:
    """Whether anybody is to be told."""
    return bool(_reports)


def call(job: Job, error: BaseException) -> None:
    """Tell all of them of a job that has ended in `error`."""
    from .execution import call_in_surroundings
    from .results import moment

    failed = FailedJob(
        job.id, job.task, job.queue, job.attempt, moment(job.created), job.error_type or "", job.error or ""
    )
    for report in _reports:
        try:
            call_in_surroundings(report, (failed, error), {})
        except BaseException:  # as a task, it ends only itself
            import logging

            logging.getLogger("autocron_web.task").exception(
                "the report of %s by %s failed", job.task, getattr(report, "__qualname__", report)
            )


_COLUMNS = ("id", "task", "queue", "attempt", "created", "error_type", "error")


def late(job: Job) -> Job:
    """A job that reports this one, whose worker is gone."""
    from .codec import dump_call

    facts = {column: getattr(job, column) for column in _COLUMNS}
    moment = now()
    return Job(
        new_id(), LATE_REPORT, moment, moment, kind="report", queue=job.queue,
        payload=dump_call((), facts), parent=job.id, meta={"result_ttl": 0, "timeout": 30},
    )  # fmt: skip


def late_report(**facts: Any) -> None:
    """The function of `LATE_REPORT`."""
    from .errors import JobFailed

    job = Job(due=0, **facts)
    text = f"{job.task} failed: {job.error}"
    call(job, TimeoutError(text) if job.error_type == "TimeoutError" else JobFailed(text))
