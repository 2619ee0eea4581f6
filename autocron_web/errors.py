"""Every exception that autocron-web raises. The docstring says when; the message says what to do."""

from __future__ import annotations


class AutocronError(Exception):
    """The base of all exceptions of autocron-web."""


class NotStarted(AutocronError):
    """A task was called, or a result asked for, before `start()`."""


class ConfigError(AutocronError, ValueError):
    """A setting has a name or a value that cannot be used."""


class TaskDefinitionError(AutocronError, TypeError):
    """A function cannot be a task: no worker could find it, or its options contradict each other."""


class NotStorable(AutocronError, TypeError):
    """A value has no exact form in the store, or is larger than the limit."""


class StoreError(AutocronError):
    """The store cannot be used: a wrong path, a missing right, a full disk, a damaged file."""


class StoreBusy(StoreError):
    """Somebody else held the store for longer than the busy timeout; nothing was stored."""


class StoreGone(StoreError):
    """The database file, or its -wal or -shm, was deleted or replaced while it was in use."""


class SchemaTooNew(StoreError):
    """The database was written by a newer autocron-web than this one."""


class WrongApplication(StoreError):
    """The store belongs to another application."""


class JobFailed(AutocronError):
    """`Result.get()` was called for a job that ended in `error`; the message is the job's own."""


class JobCancelled(AutocronError):
    """`Result.get()` was called for a job that was cancelled; the message is the reason."""


class NotCommitted(AutocronError):
    """`Result.get()` was called for a job that waits for the commit of a transaction, or was rolled back."""


class AllWorkersWait(AutocronError):
    """`Result.get()` was called in a task for a job that cannot begin: every worker waits for such a job."""


class ResultGone(AutocronError):
    """`Result.get()` was called for a job that has been deleted since: it was kept for its `result_ttl`."""


class ResultTimeout(AutocronError, TimeoutError):
    """`Result.get(timeout=…)` waited for its whole timeout, and the job is still not finished."""


class JobStopped(BaseException):
    """Raised inside a running task that is cancelled, or has run into its timeout; the message says which.

    Clean up and let it pass: a few seconds later the worker is killed. A coroutine gets asyncio's own
    `CancelledError` instead. No subclass of Exception, so that `except Exception` does not hold it up.
    """


def in_words(error: BaseException) -> str:
    """What somebody else's exception says, for the middle of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name
