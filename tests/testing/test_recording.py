"""The sentences of docs/testing.md, one by one: calls that are recorded."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autocron_web as autocron
from autocron_web import decorators, jobs, reports, tasks
from autocron_web.jobs import SECOND, Job, new_id
from autocron_web.memory import MemoryJobs
from autocron_web.store.sqlite import SqliteStore
from autocron_web.testing import Recording, recording
from contract import Contract

contract = Contract("testing.md")

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def ran() -> list[Any]:
    """What tasks note here."""
    return []


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """A recording without the tasks and crons of other tests."""
    for table in (tasks.registry, decorators.crons):
        for name in list(table):
            monkeypatch.delitem(table, name)
    with recording() as kit:
        yield kit
    tasks.registry.clear()
    decorators.crons.clear()


# -- what was enqueued -------------------------------------------------------------------------------


@contract.holds(
    "`enqueued(task)` lists the calls of a task or the runs of a cron's function, `enqueued()` all.",
    "Arguments are shown as the task gets them, after their way through the store.",
    "`options` has those options that differ from the defaults; the delay shows in `due`.",
    "A call that is left out because of `unique` is not in the list.",
)
def test_what_was_enqueued(kit: Recording) -> None:
    @autocron.delay(retries=2, name="mail")
    def send(address: str, *more: Any, copies: int = 1) -> None: ...

    @autocron.delay(unique="args")
    def once(number: int) -> None: ...

    @autocron.every(seconds=60)
    def tick() -> None: ...

    word = [1]
    send("a", (1, 2), copies=3)
    send.options(minutes=5, priority=4, queue="q", expires=9, timeout=2, retries=0).enqueue("b", word)
    word.append(2)
    first, second = once(1), once(1)
    assert first.id == second.id
    once.options(unique="task").enqueue(1)
    calls = kit.enqueued(send)
    assert [call.due for call in calls] == [call.due for call in kit.enqueued("mail")]
    assert [(call.args, call.kwargs) for call in calls] == [(("a", (1, 2)), {"copies": 3}), (("b", [1]), {})]
    assert [call.options for call in calls] == [
        {"retries": 2},
        {"priority": 4, "queue": "q", "expires": 9, "timeout": 2},
    ]
    assert [call.due - kit.now for call in calls] == [0 * MINUTE, 5 * MINUTE]
    assert [call.options for call in kit.enqueued(once)] == [{"unique": "args"}, {"unique": "task"}]
    kit.travel(minutes=1)
    [run] = kit.enqueued(tick)
    assert (run.task, run.args, run.kwargs, run.options) == (decorators.crons[run.task].task, (), {}, {})
    assert run.due.second == 0
    assert run.result.status == "done"
    assert len(kit.enqueued()) == 5
    with pytest.raises(ValueError, match="is no task"):
        kit.enqueued(print)


def test_results_are_those_of_a_pool(kit: Recording) -> None:
    @autocron.delay
    def work(number: int) -> int:
        autocron.progress(number, 10)
        return number

    results = work.enqueue_many([(1,), {"number": 2}, (3,)])
    assert [r.is_waiting() for r in results] == [True] * 3
    assert results[2].cancel()
    assert not results[2].cancel()
    assert [r.get() for r in kit.drain()] == [1, 2]
    assert results[0].progress == (1, 10, None)
    assert [r.status for r in autocron.get_results()] == ["cancelled", "done", "done"]
    assert [r.id for r in autocron.get_results(1, state="done")] == [results[1].id]


# -- drain ---------------------------------------------------------------------------------------------


@contract.holds(
    "`drain()` runs what is due, and what that enqueues, in a pool's order: by priority, moment, arrival."
)
def test_the_order_of_runs(kit: Recording, ran: list[Any]) -> None:
    @autocron.delay
    def note(word: str) -> None:
        ran.append(word)

    @autocron.delay
    def fan_out() -> None:
        note.enqueue_many([("d",), ("e",)])
        note.options(priority=9).enqueue("c")

    note("b1")
    fan_out()
    note("b2")
    note.options(priority=1).enqueue("a")
    note.options(minutes=1).enqueue("later")
    results = kit.drain()
    assert ran == ["a", "b1", "c", "b2", "d", "e"]
    assert len(results) == 7
    assert kit.enqueued(note)[-1].result.status == "done"
    assert kit.drain() == []


@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.integers(0, 3), st.sampled_from([None, "x", "y"]), st.booleans()),
        max_size=25,
    )
)
@settings(max_examples=25, deadline=None)
def test_claims_and_keys_are_those_of_a_store(kinds: list[tuple[int, int, str | None, bool]]) -> None:
    store = SqliteStore(f"/tmp/ac-{new_id()}.db", durability="normal")
    try:
        memory, now = MemoryJobs(), 1_800_000_000 * SECOND
        tasks.registry["shop.send"] = None  # type: ignore[assignment] # only its name is asked for
        new = [
            Job(
                new_id(),
                "shop.send",
                due=now + due,
                created=now,
                priority=priority,
                unique_key=key,
                expires=now + 1 if late else None,
            )
            for priority, due, key, late in kinds
        ]
        assert memory.enqueue(new) == store.enqueue(new)
        epoch = store.take_epoch("here")
        for moment in (now, now + 1, now + 9):
            claimed = store.claim("here", epoch, 100, moment)
            mine = []
            while (job := memory.claim(moment)) is not None:
                mine.append(job)
            assert [job.id for job in mine] == [job.id for job in claimed]
    finally:
        del tasks.registry["shop.send"]
        store.close()
        for suffix in ("", "-wal", "-shm"):
            Path(store.name + suffix).unlink(missing_ok=True)


@contract.holds(
    "If a job ends in an error `drain()` and `travel()` raise `JobFailed` when all have run.",
    "`allow_errors=True` lets the error be looked for in the result.",
    "Its `__cause__` is the exception of the task, and functions given to `on_error` are told of it.",
)
def test_errors(kit: Recording, ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_reports", [])
    monkeypatch.setattr(reports, "modules", set())

    @autocron.delay
    def fail() -> None:
        raise LookupError("no such word")

    @autocron.delay
    def note() -> None:
        ran.append(1)

    autocron.on_error(lambda job, error: ran.append((job.attempt, error)))
    fail()
    note()
    with pytest.raises(
        autocron.JobFailed, match=r"fail failed: Traceback(.|\n)*LookupError: no such word"
    ) as caught:
        kit.drain()
    error = caught.value.__cause__
    assert isinstance(error, LookupError)
    assert ran == [(1, error), 1]
    fail()
    [result] = kit.drain(allow_errors=True)
    assert result.has_error
    fail.options(minutes=1).enqueue()
    with pytest.raises(autocron.JobFailed):
        kit.travel(minutes=1)
    fail.options(minutes=1).enqueue()
    assert len(kit.travel(minutes=1, allow_errors=True)) == 1


@contract.holds(
    "`KeyboardInterrupt`, `pytest.fail()` and `pytest.skip()` in a task end the test and not the task."
)
@pytest.mark.parametrize("ends", [KeyboardInterrupt, pytest.fail.Exception, pytest.skip.Exception])
def test_what_ends_the_test(kit: Recording, ends: type[BaseException]) -> None:
    @autocron.delay
    def end() -> None:
        raise ends("now")

    end()
    with pytest.raises(ends, match="now"):
        kit.drain()


def test_retries_wait_for_their_moment(kit: Recording) -> None:
    moments = []

    @autocron.delay(retries=2, backoff=10)
    def fail() -> None:
        moments.append(kit.now)
        raise LookupError

    began = kit.now
    result = fail()
    assert len(kit.drain()) == 1
    assert kit.drain() == []
    assert kit.travel(seconds=9) == []
    assert len(kit.travel(seconds=60, allow_errors=True)) == 2
    assert [(moment - began).total_seconds() for moment in moments] == [0, 10, 30]
    assert (result.status, result.attempt) == ("error", 3)


def test_expired_jobs_are_cancelled(kit: Recording, ran: list[Any]) -> None:
    @autocron.delay(expires=60)
    def late() -> None:
        ran.append(1)

    result = late()
    kit.set_time(kit.now + 2 * MINUTE)
    assert kit.drain() == []
    assert (result.status, result.reason, ran) == ("cancelled", "expired", [])


@pytest.mark.once
@contract.holds(
    "More than 10,000 runs in one go, as of a task that feeds itself, end with a `RuntimeError`.",
    "Jobs are not ended by their `timeout`, since they run in the process of the test.",
)
def test_a_task_that_feeds_itself(kit: Recording) -> None:
    @autocron.delay(timeout=0.000_001)
    def again(pid: int) -> int:
        if pid:
            return os.getpid()
        again(0)
        return 0

    assert again(1).get() == os.getpid()
    again(0)
    with pytest.raises(RuntimeError, match=r"10,000 jobs have run, .*again at last"):
        kit.drain()


# -- time ----------------------------------------------------------------------------------------------


@contract.holds(
    "`travel(days=…, hours=…)` and `travel_to(moment)` run each job and each slot of a cron at its moment.",
    "Crons run by the rules of [cron.md](cron.md), and only while a test travels.",
)
def test_everything_runs_at_its_moment(kit: Recording) -> None:
    moments: list[tuple[str, str]] = []

    def note(word: str) -> None:
        moments.append((word, f"{kit.now:%H:%M:%S}"))

    kit.set_time(dt.datetime(2026, 5, 1, 11, 59, 30, tzinfo=dt.UTC))

    @autocron.cron(unix="*/2 12 * * *", tz="UTC")
    def cron() -> None:
        note("cron")

    @autocron.every(seconds=90, start_now=True)
    @autocron.delay(retries=1, backoff=30)
    def every() -> None:
        note("every")
        if len(moments) < 2:
            raise LookupError

    @autocron.delay(seconds=150)
    def later() -> None:
        note("later")

    later()
    assert kit.drain() == []
    assert len(kit.travel(seconds=29)) == 1
    assert kit.now.second == 59
    assert len(kit.travel(minutes=3, seconds=1)) == 6
    assert moments == [
        ("every", "11:59:30"),  # at once, and it fails
        ("cron", "12:00:00"),
        ("every", "12:00:00"),  # tried again; so the slot of this moment is left out
        ("every", "12:01:30"),
        ("later", "12:02:00"),
        ("cron", "12:02:00"),
        ("every", "12:03:00"),
    ]


@contract.holds(
    "`travel_to` takes an aware datetime, or a naive one as local time.",
    "`set_time(moment)` sets the clock, forward or back, without running anything in between.",
)
def test_where_the_clock_goes(kit: Recording, ran: list[Any]) -> None:
    @autocron.cron("0 * * * *", tz="UTC")
    def hourly() -> None:
        ran.append(kit.now.hour)

    @autocron.delay(hours=2)
    def later() -> None:
        ran.append("later")

    moment = dt.datetime(2026, 1, 1, 12, 30, tzinfo=dt.UTC)
    kit.set_time(moment)
    later()
    kit.travel_to(moment.astimezone(dt.timezone(5 * MINUTE * 12)) + 60 * MINUTE)
    assert (kit.now, ran) == (moment + 60 * MINUTE, [13])
    kit.travel_to((moment + 61 * MINUTE).astimezone().replace(tzinfo=None))
    assert kit.now == moment + 61 * MINUTE
    with pytest.raises(ValueError, match=r"set_time\(\) sets it back"):
        kit.travel_to(moment)
    kit.set_time(moment + dt.timedelta(days=900))
    kit.set_time(moment + 115 * MINUTE)
    assert ran == [13]
    kit.travel(minutes=5)
    assert ran == [13, "later"]
    kit.travel(minutes=30)
    assert ran == [13, "later", 15]


@contract.holds("The clock is that of jobs and crons only; `datetime.now()` in the app is not touched.")
def test_the_clock_stands_still(kit: Recording) -> None:
    @autocron.delay
    def look() -> str:
        return dt.datetime.now(dt.UTC).isoformat()

    began = kit.now
    kit.travel(days=30)
    result = look()
    time.sleep(0.001)
    kit.drain()
    assert kit.now == result.created == result.started == result.finished == began + dt.timedelta(days=30)
    assert dt.datetime.fromisoformat(result.get()) < began + MINUTE


def test_missed_and_overlapping_slots(kit: Recording, ran: list[Any]) -> None:
    @autocron.every(seconds=60, overlap="allow")
    def enqueues() -> None:
        if len(ran) < 3:
            ran.append(kit.now.minute)

    kit.set_time(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    kit.travel(minutes=10)
    assert ran == [1, 2, 3]
    assert len(kit.enqueued(enqueues)) == 10


# -- waiting -------------------------------------------------------------------------------------------


@contract.holds(
    "Waiting for a result runs what is due, and raises `ResultTimeout` at once if the job is due later."
)
def test_waiting_for_a_result(kit: Recording) -> None:
    @autocron.delay
    def child(number: int) -> int:
        return number + 1

    @autocron.delay
    def parent(number: int) -> int:
        return child(number).get() * 10

    assert parent(1).get(timeout=5) == 20
    late = child.options(seconds=1).enqueue(1)
    for timeout in (None, 60):
        with pytest.raises(autocron.ResultTimeout, match="let the test travel before its result"):
            late.get(timeout)
    kit.travel(seconds=1)
    assert late.get() == 2

    @autocron.delay
    def itself() -> int:
        return autocron.get_results(1, task=itself.name)[0].get()  # type: ignore[no-any-return]

    assert "ResultTimeout" in str(itself().error_message or kit.drain(allow_errors=True)[0].error_message)


def test_in_an_event_loop_and_in_threads(kit: Recording, ran: list[Any]) -> None:
    @autocron.delay
    async def nap(word: str) -> str:
        await asyncio.sleep(0)
        ran.append(threading.current_thread() is threading.main_thread())
        return word

    async def main() -> list[str]:
        first, second = nap("a"), await nap.aenqueue("b")
        assert (first.status, second.status) == ("waiting", "waiting")
        words = [await first, await second]
        nap("c")
        kit.drain()
        return words

    assert asyncio.run(main()) == ["a", "b"]
    threads = [threading.Thread(target=nap, args=("d",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kit.drain()) == 8
    assert len(ran) == 11


# -- around the test -----------------------------------------------------------------------------------


@contract.holds("`start()` starts nothing while a test records.")
def test_nothing_starts_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, kit: Recording, home: Path
) -> None:
    monkeypatch.setenv("AUTOCRON_MODE", "pool")
    monkeypatch.setattr(sys, "argv", ["shop.py"])  # a program that serves
    assert autocron.start("shop.db") is False

    @autocron.delay
    def work() -> None: ...

    assert work().is_waiting
    assert autocron.stop() is True
    assert list(home.iterdir()) == []
    assert len(kit.enqueued()) == 1


def test_afterwards_all_is_as_before() -> None:
    engine: Any = sys.modules["autocron_web.engine"].engine
    before = (engine._client, engine.is_tested, jobs.clock)

    def fail() -> None:
        with recording() as outer, recording() as inner:
            outer.set_time(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
            assert jobs.now() == int(inner.now.timestamp() * SECOND) > 10**15
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (engine._client, engine.is_tested, jobs.clock) == before
    assert abs(jobs.now() - time.time_ns() // 1000) < 60 * SECOND
