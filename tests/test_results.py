"""The caller's handle on a job, over a client that answers what the test has put there."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import pytest

from autocron_web import codec
from autocron_web.client import BrokenClient
from autocron_web.errors import JobCancelled, JobFailed, NotStorable, ResultTimeout, StoreBusy, StoreError
from autocron_web.jobs import SECOND, Job
from autocron_web.results import Progress, Result

MOMENT = 1_700_000_000 * SECOND + 123_456
WAITING = Job("0190-1", "shop.send", due=MOMENT + SECOND, created=MOMENT)
RUNNING = WAITING._replace(state="running", started=MOMENT + 2, attempt=1)
DONE = RUNNING._replace(state="done", finished=MOMENT + 3, result=codec.dumps(("ok", 1)))
FAILED = RUNNING._replace(
    state="error", finished=MOMENT + 3, error_type="ValueError", error="Traceback …\nValueError: no"
)
CANCELLED = WAITING._replace(state="cancelled", finished=MOMENT + 3, reason="expired")  # fmt: skip


class FakeClient:
    """Answers with the jobs of the list, one for each question; the last one again and again."""

    def __init__(self, *jobs: Job | None) -> None:
        self._jobs = list(jobs)
        self.asked: list[str] = []

    def _next(self, question: str) -> Job | None:
        self.asked.append(question)
        return self._jobs.pop(0) if len(self._jobs) > 1 else self._jobs[0]

    def get(self, job_id: str) -> Job | None:
        assert job_id == WAITING.id
        return self._next("get")

    def wait(self, job: Job, timeout: float | None) -> Job:
        return self._next(f"wait {timeout}") or job

    async def await_(self, job: Job) -> Job:
        return self._next("await") or job

    def cancel(self, job_id: str, reason: str) -> bool:
        self.asked.append(f"{job_id} {reason}")
        return True

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        raise AssertionError

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        raise AssertionError

    def progress(self, note: list[Any]) -> None:
        raise AssertionError


def result_of(*jobs: Job | None) -> Result[Any]:
    return Result(WAITING, FakeClient(*jobs))


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "waiting", "ready", "error", "value"),
    [
        (WAITING, True, False, False, None),
        (RUNNING, True, False, False, None),
        (DONE, False, True, False, ("ok", 1)),
        (FAILED, False, True, True, None),
        (CANCELLED, False, True, False, None),
    ],
)
def test_each_state_reads_the_same_as_attribute_and_as_call(
    job: Job, waiting: bool, ready: bool, error: bool, value: object
) -> None:
    r = result_of(job)
    assert r.status == job.state
    assert r.has_error is error
    assert json.dumps([r.has_error]) == json.dumps([error])
    for flag, expected in ((r.is_waiting, waiting), (r.is_ready, ready)):
        assert (bool(flag), flag(), flag == expected) == (expected, expected, True)
        assert flag() is expected
        assert repr(flag) == str(flag) == f"{flag}" == repr(expected)
        assert json.dumps({"flag": flag()}) == json.dumps({"flag": expected})
    assert r.result == value
    assert (r.error_message, r.reason, r.attempt) == (job.error, job.reason, job.attempt)


def test_a_finished_job_is_not_read_again() -> None:
    client = FakeClient(WAITING, RUNNING, DONE)
    r: Result[Any] = Result(WAITING, client)
    assert [r.status for _ in range(5)] == ["waiting", "running", "done", "done", "done"]
    assert (r.get(), r.result, r.attempt) == (("ok", 1), ("ok", 1), 1)
    assert client.asked == ["get"] * 3


def test_a_job_that_was_deleted_had_finished() -> None:
    client = FakeClient(RUNNING, None)
    r: Result[Any] = Result(WAITING, client)
    assert [r.status, r.status, r.status] == ["running", "gone", "gone"]
    assert (r.is_waiting(), r.is_ready(), r.has_error) == (False, True, False)
    assert (r.result, r.error_message, r.attempt) == (None, None, 1)  # as it was last seen
    assert r.reason == "it had finished, and was deleted when its result_ttl was over"
    assert client.asked == ["get", "get"]


def test_moments_are_aware_and_exact() -> None:
    r = result_of(DONE)
    moment = dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=dt.UTC)
    assert (r.created, r.due) == (moment, moment + dt.timedelta(seconds=1))
    assert r.started == moment + dt.timedelta(microseconds=2)
    assert r.finished == moment + dt.timedelta(microseconds=3)
    r = result_of(WAITING)
    assert (r.started, r.finished) == (None, None)


def test_progress_is_what_was_said_last() -> None:
    r = result_of(RUNNING, RUNNING._replace(meta={"progress": [3, 10, "note"]}))
    assert r.progress is None
    progress = r.progress
    assert progress == Progress(3, 10, "note") == (3, 10, "note")
    assert progress is not None
    assert (progress.done, progress.total, progress.note) == (3, 10, "note")


def test_what_it_is_called() -> None:
    r = result_of(WAITING)
    assert (r.id, r.task, repr(r)) == ("0190-1", "shop.send", "<Result shop.send 0190-1>")


def test_a_result_that_is_damaged_is_said_to_be() -> None:
    r = result_of(DONE._replace(result=b"{"))
    assert r.is_ready()
    with pytest.raises(NotStorable, match="a stored value is damaged"):
        r.get()


def test_a_result_that_was_not_stored_is_none() -> None:
    r = result_of(DONE._replace(result=b"", reason="the result was not stored: …"))
    assert (r.get(), r.result, r.is_ready(), r.reason) == (None, None, True, "the result was not stored: …")


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "kind", "sentence"),
    [
        (FAILED, JobFailed, "shop.send failed: Traceback …\nValueError: no"),
        (CANCELLED, JobCancelled, "shop.send was cancelled: expired"),
        (WAITING, ResultTimeout, "shop.send is still waiting after 1.5 s (job 0190-1)"),
        (RUNNING, ResultTimeout, "shop.send is still running after 1.5 s (job 0190-1)"),
        (WAITING, TimeoutError, "shop.send is still waiting after 1.5 s (job 0190-1)"),
    ],
)
def test_get_raises_what_has_become_of_the_job(job: Job, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as error:
        result_of(job).get(timeout=1.5)
    assert str(error.value) == sentence


def test_get_passes_its_timeout_and_waits_only_once() -> None:
    client = FakeClient(DONE)
    r: Result[Any] = Result(WAITING, client)
    assert [r.get(0.5), r.get(7), r.get()] == [("ok", 1)] * 3
    assert client.asked == ["wait 0.5"]


def test_await_is_get_for_coroutines() -> None:
    async def wait(r: Result[Any]) -> object:
        return await r

    client = FakeClient(DONE)
    r: Result[Any] = Result(WAITING, client)
    assert asyncio.run(wait(r)) == ("ok", 1)
    assert asyncio.run(wait(r)) == ("ok", 1)
    assert client.asked == ["await"]
    with pytest.raises(JobFailed):
        asyncio.run(wait(result_of(FAILED)))
    with pytest.raises(JobCancelled):
        asyncio.run(wait(result_of(CANCELLED)))


def test_cancel_asks_the_client() -> None:
    client = FakeClient(WAITING)
    assert Result(WAITING, client).cancel() is True
    assert client.asked == ["0190-1 cancelled by a call of cancel()"]


# -- a store that could not be used ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StoreError, StoreBusy])
def test_a_broken_client_says_its_error_for_each_call(kind: type[StoreError]) -> None:
    first = kind("the disk is full")
    client = BrokenClient(first, lambda: None)
    for call in (lambda: client.enqueue([]), lambda: client.get("x"), lambda: client.jobs(1, None, None)):
        with pytest.raises(kind, match="the disk is full") as error:
            call()
        assert error.value is not first  # or its traceback would grow with each call
