"""The caller's handle on a job."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from .errors import JobCancelled, JobFailed, ResultTimeout
from .jobs import FINISHED, Job

if TYPE_CHECKING:
    import datetime

    from .client import Reader

R_co = TypeVar("R_co", covariant=True)


GONE = "gone"  # what `status` says of a job that has been deleted: it had finished


class Flag(int):
    """A bool that can also be called: `r.is_ready` and `r.is_ready()` say the same.

    Python lets nothing be derived from bool, so the attribute is a number for what looks at the class: `json`
    writes 1 or 0, `is True` does not hold. The call returns a real bool.
    """

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))


class Progress(NamedTuple):
    """What a running task last said with `autocron.progress(done, total, note)`."""

    done: float
    total: float | None
    note: str | None


class Result(Generic[R_co]):
    """What a call of a task returns: the job's id, and what has become of it.

    Each attribute reads the store, until the job has finished; then what was read is kept.

        r = send_mail("a@b.c", "hi")
        r.status             # "waiting", "running", "done", "error", "cancelled" or "gone"
        r.get(timeout=5)     # waits; raises JobFailed, JobCancelled or ResultTimeout
        await r              # the same in a coroutine
    """

    def __init__(self, job: Job, client: Reader) -> None:
        self._job = job
        self._client = client
        self._gone = False  # the job had finished, and was deleted before this looked

    def __repr__(self) -> str:
        return f"<Result {self.task} {self.id}>"

    def settle(self, job: Job, client: Reader) -> None:
        """The call has been stored now, by its transaction's commit: `client` knows the job."""
        self._job, self._client = job, client

    if not TYPE_CHECKING:  # for a checker each name that is not here is a mistake

        def __getattr__(self, name):
            instead = _OLD_NAMES.get(name)
            if instead is None:
                raise AttributeError(f"a Result has no attribute {name!r}", name=name, obj=self)
            raise AttributeError(f"a Result has no {name!r} since autocron 1.x: {instead}")

    def _read(self) -> Job:
        """The job as it is now; as it was last seen if it has been deleted since."""
        if self._job.state not in FINISHED and not self._gone:
            found = self._client.get(self._job.id)
            self._gone = found is None  # only jobs that have finished are deleted
            self._job = found or self._job._replace(reason=_WHY_GONE)
        return self._job

    def _has_ended(self) -> bool:
        return self._read().state in FINISHED or self._gone

    # -- the job -------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The job's id: a UUIDv7 as text."""
        return self._job.id

    @property
    def uuid(self) -> str:
        """The same as `id`, under its name in autocron 1.x."""
        return self._job.id

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._job.task

    @property
    def status(self) -> str:
        """`waiting`, `running`, `done`, `error` or `cancelled`.

        `gone` if the job had finished and has been deleted before this Result looked: it was kept for its
        `result_ttl` (or 14 days, with an error), and how it ended is not known any more.
        """
        state = self._read().state
        return GONE if self._gone else state

    @property
    def reason(self) -> str | None:
        """Why the job was cancelled, why its result was not stored or is gone, or why it waits."""
        return self._read().reason

    @property
    def attempt(self) -> int:
        """How often the job has been handed to a worker."""
        return self._read().attempt

    @property
    def progress(self) -> Progress | None:
        """What the task has last said of its progress."""
        note = self._read().meta.get("progress")
        return Progress(*note) if note else None

    @property
    def output(self) -> str | None:
        """The tail of what the task printed, once it has ended."""
        return self._read().output

    @property
    def due(self) -> datetime.datetime:
        """When the job is due (aware, UTC)."""
        return moment(self._read().due)

    @property
    def created(self) -> datetime.datetime:
        """When the task was called (aware, UTC)."""
        return moment(self._job.created)

    @property
    def started(self) -> datetime.datetime | None:
        """When the job was last handed to a worker (aware, UTC)."""
        started = self._read().started
        return None if started is None else moment(started)

    @property
    def finished(self) -> datetime.datetime | None:
        """When the job ended (aware, UTC)."""
        finished = self._read().finished
        return None if finished is None else moment(finished)

    # -- how it ended --------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> Flag:
        """Whether the job has not finished yet; also as a call."""
        return Flag(not self._has_ended())

    @property
    def is_ready(self) -> Flag:
        """Whether the job has finished: with a result, with an error, cancelled, or gone; also as a call."""
        return Flag(self._has_ended())

    @property
    def has_error(self) -> bool:
        """Whether the job ended in an error."""
        return self._read().state == "error"

    @property
    def error_message(self) -> str | None:
        """The traceback of the last attempt that failed, or None."""
        return self._read().error

    @property
    def result(self) -> R_co | None:
        """What the function returned; None before, and where it could not be stored (see `reason`)."""
        job = self._read()
        return _value(job) if job.state == "done" else None

    @property
    def function_result(self) -> R_co | None:
        """The same as `result`, under its other name in autocron 1.x."""
        return self.result

    def get(self, timeout: float | None = None) -> R_co:
        """Wait until the job has finished and return what the function returned.

        timeout: seconds to wait at most; None waits for ever.

        Raises `ResultTimeout`, `JobFailed` with the traceback, `JobCancelled` with the reason, `ResultGone`
        if the job had finished and has been deleted since.
        """
        if timeout is not None:
            from .checks import check_patience

            timeout = check_patience(timeout)
        if self._job.state not in FINISHED:
            self._job = self._client.wait(self._job, timeout)
        return self._outcome(timeout)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._aget().__await__()

    async def _aget(self) -> R_co:
        if self._job.state not in FINISHED:
            self._job = await self._client.await_(self._job)
        return self._outcome(None)

    def cancel(self) -> bool:
        """Cancel the job; a running one is stopped in its worker. Whether it was waiting or running here."""
        return self._client.cancel(self._job.id, "cancelled by a call of cancel()")

    def _outcome(self, timeout: float | None) -> R_co:
        job = self._job
        if job.state == "done":
            value: R_co = _value(job)
            return value
        if job.state == "error":
            raise JobFailed(f"{job.task} failed: {job.error}")
        if job.state == "cancelled":
            raise JobCancelled(f"{job.task} was cancelled: {job.reason}")
        raise ResultTimeout(f"{job.task} is still {job.state} after {timeout} s (job {job.id})")


_WHY_GONE = "it had finished, and was deleted when its result_ttl was over"

#: What else a Result of autocron 1.x has, and what does that now.
_OLD_NAMES = {
    "function_name": "`task` is the task's whole name, such as 'shop.send_mail'",
    "function_module": "`task` is the task's whole name, such as 'shop.send_mail'",
    "function_arguments": "a Result does not show the arguments; keep them beside it if they are needed",
    "args": "a Result does not show the arguments; keep them beside it if they are needed",
    "kwargs": "a Result does not show the arguments; keep them beside it if they are needed",
    "func": "call the task itself again, or its function by `.call()`",
    "ttl": "`finished` is when the job ended, and delay(result_ttl=) how many seconds it is kept then",
    "rowid": "`id` is the job's id",
}


def _value(job: Job) -> Any:
    from . import codec

    if not job.result:
        return None
    if job.codec == "pickle":
        from . import pickles

        return pickles.load_result(job.task, job.id, job.result)
    return codec.loads(job.result)


def moment(microseconds: int) -> datetime.datetime:
    """A time of a job as an aware datetime (UTC)."""
    import datetime

    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return epoch + datetime.timedelta(microseconds=microseconds)
