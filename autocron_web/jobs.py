"""The job: the one record that travels from the caller to the store, the monitor and the worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

State = Literal["waiting", "running", "done", "error", "cancelled"]

STATES = ("waiting", "running", "done", "error", "cancelled")

#: States in which nothing more will happen to a job.
FINISHED: frozenset[str] = frozenset({"done", "error", "cancelled"})

#: `reason` of a waiting job whose task no worker of the pool knows: it is not claimed.
UNKNOWN_TASK = "unknown task"

SECOND = 1_000_000  # all times and spans of a job are integer microseconds


class Job(NamedTuple):
    """One call of a task, with one field for each column of the table `autocron_job`, in its order.

    Times are integer microseconds since 1970-01-01 UTC; None stands for "has not happened".
    A job is changed by `job._replace(...)` and written back with `Store.settle`.
    """

    id: str
    task: str
    due: int
    created: int
    kind: str = "call"  # call, cron, schedule
    queue: str = "default"
    priority: int = 0  # higher first
    state: State = "waiting"
    reason: str | None = None
    started: int | None = None
    finished: int | None = None
    attempt: int = 0
    crashes: int = 0
    epoch: int | None = None
    owner: str | None = None
    unique_key: str | None = None
    expires: int | None = None  # waiting: then cancelled; finished: then deleted
    codec: str = "json"
    payload: bytes = b""
    result: bytes | None = None
    error_type: str | None = None
    error: str | None = None
    output: str | None = None
    parent: str | None = None
    meta: dict[str, Any] = {}  # task options that the monitor needs, and the job's progress
    seq: int | None = None  # given by the store: the order of arrival


def wall_clock() -> int:
    """The machine's clock in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


#: What `now` asks. A test that travels in time puts its own clock here.
clock: Callable[[], int] = wall_clock


def now() -> int:
    """The time in microseconds since 1970-01-01 UTC."""
    return clock()


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7) as text: unique, and ordered by time to the millisecond."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7(milliseconds: int, tail: bytes) -> str:
    """The UUIDv7 of a moment since 1970 and of 10 bytes that tell it from others."""
    stamp, rest = milliseconds & 0xFFFFFFFFFFFF, int.from_bytes(tail, "big")
    value = (stamp << 80) | (0x7 << 76) | ((rest >> 68) << 64) | (0x2 << 62) | (rest & ((1 << 62) - 1))
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def random() -> float:
    """A number from 0 to 1, without the module of that name, which takes a while to import."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


AHEAD = 86400 * SECOND  # a clock that is set back by more has been wrong before
WRITTEN = 1_767_225_600 * SECOND  # 2026-01-01: a clock that shows an earlier time is wrong now


def latest_slot(moment: int) -> int:
    """The latest slot that a cron can have run at if the clock, which shows `moment`, was right then as well.

    A last slot that lies beyond it was taken while the clock was ahead, and the cron must not wait for that
    time to come. A machine that has not heard yet what time it is (1970) does not judge.
    """
    return moment + AHEAD if moment >= WRITTEN else 1 << 62


# -- what becomes of a running job; pure, so that each rule can be read and tested alone ---------------

MAX_CRASHES = 3
MAX_INTERRUPTIONS = 20
RESULT_TTL = 1800 * SECOND  # how long a done job is kept
ERROR_TTL = 14 * 86400 * SECOND  # how long a failed or cancelled one is
MAX_TRACEBACK = 64 * 1024  # bytes
JITTER = 0.1  # the share of a pause by which it is longer at random
MAX_PAUSE = 365 * 86400  # seconds before another try, however often the backoff was doubled


def succeeded(
    job: Job,
    moment: int,
    result: bytes,
    codec: str,
    output: str | None,
    reason: str | None,
    result_ttl: int = RESULT_TTL,
) -> Job:
    """The function returned. `reason` says why its value could not be stored, if so.

    `result_ttl` is how long it is kept if its task does not say that.
    """
    lasting = int(job.meta["result_ttl"] * SECOND) if "result_ttl" in job.meta else result_ttl
    return job._replace(
        state="done", finished=moment, expires=moment + lasting, reason=reason, result=result, codec=codec,
        output=output,
    )  # fmt: skip


def failed(
    job: Job,
    moment: int,
    error_type: str,
    error: str,
    output: str | None = None,
    *,
    dice: Callable[[], float] = random,
) -> Job:
    """The function raised: the job waits for its next try, or ends in `error`.

    dice: a number from 0 to 1 for the jitter of the pause until then.
    """
    failures = job.meta.get("failures", 0) + 1
    facts: dict[str, Any] = {"error_type": error_type, "error": error[-MAX_TRACEBACK:], "output": output}
    if failures > job.meta.get("retries", 0):
        return _finished(job, moment, state="error", **facts)
    pause = min(job.meta.get("backoff", 1.0) * 2.0 ** min(failures - 1, 40), MAX_PAUSE)
    pause *= 1 + job.meta.get("jitter", JITTER) * dice()
    meta = {**job.meta, "failures": failures}
    return job._replace(state="waiting", due=moment + int(pause * SECOND), meta=meta, **facts)


def crashed(job: Job, moment: int, how: str, stack: str = "") -> Job:
    """A living monitor saw the worker die by itself: the job waits again, until the `MAX_CRASHES`th time.

    stack: where that was, if it is known; it follows the sentence.
    """
    crashes = job.crashes + 1
    facts: dict[str, Any] = {"crashes": crashes, "error_type": "WorkerCrashed"}
    if crashes < MAX_CRASHES:
        return job._replace(state="waiting", error=how + stack, **facts)
    return _finished(job, moment, state="error", error=f"{how}; {crashes} times{stack}", **facts)


def interruptions(job: Job) -> int:
    """How many attempts were neither tries nor crashes: the pool ended under them, the last one included."""
    return job.attempt - job.crashes - int(job.meta.get("failures", 0))


def interrupted(job: Job, moment: int, most: int = MAX_INTERRUPTIONS) -> Job:
    """The pool ended under the job, which is no fault of its own: it waits again, up to `most` times."""
    number = interruptions(job)
    if number < most:
        return job._replace(state="waiting")
    how = f"interrupted: the pool ended while it ran, {number} times"
    return _finished(job, moment, state="error", error_type="Interrupted", error=how)


def unstorable(job: Job, moment: int, how: str) -> Job:
    """The store cannot hold what has become of the job: it has failed by that, and nothing else is kept."""
    return _finished(
        job, moment, state="error", error_type="NotStorable", error=f"its end could not be stored: {how}",
        reason=None, result=None, output=None, meta={},
    )  # fmt: skip


def cancelled(job: Job, moment: int, reason: str) -> Job:
    """Somebody has ended the job."""
    return _finished(job, moment, state="cancelled", reason=reason)


def begun_anew(job: Job) -> Job:
    """Somebody lets a job that had ended wait again, as if it had never begun."""
    meta = {key: value for key, value in job.meta.items() if key not in ("failures", "progress")}
    return job._replace(
        state="waiting", reason=None, started=None, finished=None, attempt=0, crashes=0, expires=None,
        result=None, error_type=None, error=None, output=None, meta=meta,
    )  # fmt: skip


def handed_back(job: Job, reason: str | None = None) -> Job:
    """The job was claimed and then not handed to a worker: as if it had not been claimed."""
    return job._replace(state="waiting", attempt=job.attempt - 1, reason=reason)


def _finished(job: Job, moment: int, **columns: Any) -> Job:
    return job._replace(finished=moment, expires=moment + ERROR_TTL, **columns)
