"""Background tasks and cron for any Python web app, with nothing to install, start or supervise beside it.

import autocron_web as autocron

@autocron.delay
def send_mail(address: str, text: str) -> None: ...

autocron.start("shop.db")
send_mail("a@b.c", "hi")
"""

from .decorators import cron, delay, every
from .engine import Engine
from .engine import engine as _engine  # so that `autocron_web.engine` stays the module
from .errors import (
    AllWorkersWait,
    AutocronError,
    ConfigError,
    JobCancelled,
    JobFailed,
    JobStopped,
    NotCommitted,
    NotStarted,
    NotStorable,
    ResultGone,
    ResultTimeout,
    SchemaTooNew,
    StoreBusy,
    StoreError,
    StoreGone,
    TaskDefinitionError,
    WrongApplication,
)
from .reports import FailedJob, on_error
from .results import Progress, Result
from .tasks import Task

__version__ = "0.1.0"

start = _engine.start
leave = _engine.leave
stop = _engine.stop
get_results = _engine.get_results


def in_worker() -> bool:
    """Whether this process is a worker: for code above the line at which a main module starts to serve."""
    return _engine.in_worker


def progress(done: float, total: float | None = None, note: str | None = None) -> None:
    """Say how far the running task is; its Result shows it. Cheap: at most ten a second are written.

    Outside a task it does nothing, so that a function can also be called directly.

        for i, row in enumerate(rows, 1):
            autocron.progress(i, len(rows), row.address)
    """
    _engine.progress(done, total, note)


def register(cls: type) -> type:
    """Allow an enum or a dataclass in the arguments and results of tasks; also as a decorator.

    Raises TypeError for other classes. docs/payload.md lists what can be stored without it.
    """
    from . import codec

    return codec.register(cls)


__all__ = [
    "AllWorkersWait",
    "AutocronError",
    "ConfigError",
    "Engine",
    "FailedJob",
    "JobCancelled",
    "JobFailed",
    "JobStopped",
    "NotCommitted",
    "NotStarted",
    "NotStorable",
    "Progress",
    "Result",
    "ResultGone",
    "ResultTimeout",
    "SchemaTooNew",
    "StoreBusy",
    "StoreError",
    "StoreGone",
    "Task",
    "TaskDefinitionError",
    "WrongApplication",
    "cron",
    "delay",
    "every",
    "get_results",
    "in_worker",
    "leave",
    "on_error",
    "progress",
    "register",
    "start",
    "stop",
]
