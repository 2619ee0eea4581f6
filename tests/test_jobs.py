"""What becomes of a job: each transition alone, and the ids."""

from __future__ import annotations

import time
import uuid
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocron_web import jobs
from autocron_web.jobs import SECOND, Job

NOW = 1_700_000_000 * SECOND
RUNNING = Job("id", "shop.send", due=NOW - 9, created=NOW - 10, state="running", started=NOW - 5, attempt=1)


def with_options(**meta: float) -> Job:
    return RUNNING._replace(meta=meta)


def test_a_job_that_succeeded_is_kept_for_half_an_hour() -> None:
    job = jobs.succeeded(RUNNING, NOW, b"7", "json", "tail", None)
    assert (job.state, job.result, job.codec, job.output, job.reason) == ("done", b"7", "json", "tail", None)
    assert (job.finished, job.expires) == (NOW, NOW + 1800 * SECOND)
    assert (
        jobs.succeeded(with_options(result_ttl=2.5), NOW, b"", "json", None, None).expires == NOW + 2_500_000
    )
    assert jobs.succeeded(RUNNING, NOW, b"", "json", None, "too large").reason == "too large"


def test_a_job_that_failed_is_kept_for_two_weeks() -> None:
    job = jobs.failed(with_options(result_ttl=1), NOW, "ValueError", "Traceback …", "tail")
    assert (job.state, job.error_type, job.error, job.output) == (
        "error",
        "ValueError",
        "Traceback …",
        "tail",
    )
    assert (job.finished, job.expires) == (NOW, NOW + 14 * 86400 * SECOND)


def test_tries_come_after_a_pause_that_doubles() -> None:
    job = with_options(retries=3, backoff=2.0)
    pauses = []
    while (job := jobs.failed(job, NOW, "ValueError", "no", "tail", dice=lambda: 0.0)).state == "waiting":
        pauses.append((job.due - NOW) / SECOND)
        assert (job.error, job.output, job.finished, job.reason) == ("no", "tail", None, None)
    assert pauses == [2, 4, 8]
    assert job.state == "error"


@pytest.mark.parametrize(
    ("jitter", "dice", "pauses"),
    [
        ({}, 1.0, [2.2, 4.4, 8.8]),
        ({}, 0.5, [2.1, 4.2, 8.4]),
        ({"jitter": 1}, 0.25, [2.5, 5, 10]),
        ({"jitter": 0}, 1.0, [2, 4, 8]),
    ],
)
def test_jitter_makes_each_pause_longer_by_a_share_of_it(
    jitter: dict[str, float], dice: float, pauses: list[float]
) -> None:
    job = with_options(retries=3, backoff=2.0, **jitter)
    found = []
    for _ in pauses:
        job = jobs.failed(job, NOW, "ValueError", "no", dice=lambda: dice)
        found.append((job.due - NOW) / SECOND)
    assert found == pytest.approx(pauses)


def test_jitter_is_random() -> None:
    dues = {jobs.failed(with_options(retries=1), NOW, "ValueError", "no").due for _ in range(50)}
    assert len(dues) > 40
    assert all(NOW + SECOND <= due <= NOW + 1.1 * SECOND for due in dues)


@pytest.mark.parametrize("backoff", [0, 0.0, 1e-9, 1.0, 9e9])
def test_no_number_of_tries_is_too_many(backoff: float) -> None:
    job = with_options(retries=1_000_000, backoff=backoff, failures=999_998)
    job = jobs.failed(job, NOW, "ValueError", "no")
    assert job.state == "waiting"
    assert NOW <= job.due < 2**63
    assert jobs.failed(jobs.failed(job, NOW, "E", "no"), NOW, "E", "no").state == "error"


def test_a_long_traceback_keeps_its_end() -> None:
    job = jobs.failed(RUNNING, NOW, "ValueError", "x" * 100_000 + "the end")
    assert len(job.error or "") == jobs.MAX_TRACEBACK
    assert (job.error or "").endswith("the end")


def test_the_third_crash_is_an_error_and_none_is_a_failed_try() -> None:
    job = with_options(retries=5)
    states = []
    for _ in range(3):
        job = jobs.crashed(job, NOW, "the worker was killed by SIGSEGV while it ran the job")
        states.append((job.state, job.crashes, job.error_type))
    assert states == [
        ("waiting", 1, "WorkerCrashed"),
        ("waiting", 2, "WorkerCrashed"),
        ("error", 3, "WorkerCrashed"),
    ]
    assert job.error == "the worker was killed by SIGSEGV while it ran the job; 3 times"
    assert job.due == RUNNING.due
    assert "failures" not in job.meta


def test_an_interrupted_job_waits_again_up_to_twenty_times() -> None:
    job = jobs.interrupted(RUNNING._replace(attempt=19), NOW)
    assert (job.state, job.due, job.crashes, job.error) == ("waiting", RUNNING.due, 0, None)
    job = jobs.interrupted(RUNNING._replace(attempt=20), NOW)
    assert (job.state, job.error_type) == ("error", "Interrupted")
    assert job.error == "interrupted: the pool ended while it ran, 20 times"


@given(st.integers(0, 40), st.integers(0, 2), st.integers(1, 20), st.randoms())
def test_tries_and_crashes_are_no_interruptions(
    tries: int, crashes: int, interruptions: int, dice: Random
) -> None:
    ends = ["try"] * tries + ["crash"] * crashes + ["interruption"] * (interruptions - 1)
    dice.shuffle(ends)
    job = with_options(retries=50)._replace(attempt=0)
    for end in [*ends, "interruption"]:
        assert job.state in ("waiting", "running")
        job = job._replace(state="running", attempt=job.attempt + 1)
        if end == "try":
            job = jobs.failed(job, NOW, "E", "no")
        elif end == "crash":
            job = jobs.crashed(job, NOW, "it crashed")
        else:
            job = jobs.interrupted(job, NOW)
    assert job.state == ("waiting" if interruptions < 20 else "error")
    assert jobs.interruptions(job) == interruptions


def test_a_job_that_was_handed_back_was_never_tried() -> None:
    job = jobs.handed_back(RUNNING)
    assert (job.state, job.attempt, job.reason) == ("waiting", 0, None)
    assert jobs.handed_back(RUNNING, jobs.UNKNOWN_TASK).reason == "unknown task"


def test_a_cancelled_job_says_why() -> None:
    job = jobs.cancelled(RUNNING, NOW, "not needed")
    assert (job.state, job.reason, job.finished) == ("cancelled", "not needed", NOW)
    assert job.state in jobs.FINISHED


def test_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [jobs.new_id() for _ in range(2000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 2000
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)


@given(st.integers(0, 10), st.floats(0, 1e6), st.integers(0, 12))
def test_a_job_fails_exactly_as_often_as_it_may(retries: int, backoff: float, crashes: int) -> None:
    job = with_options(retries=retries, backoff=backoff)
    for _ in range(retries):
        job = jobs.failed(job, NOW, "E", "no")
        assert job.state == "waiting"
    assert jobs.failed(job, NOW, "E", "no").state == "error"
