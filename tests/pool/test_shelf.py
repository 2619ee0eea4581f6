"""Short jobs that lie ready for a worker, and what happens to them if it dies, is held up or is ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autocron_web.jobs import Job
from autocron_web.pool import shelf
from autocron_web.pool.shelf import Done, Shelf, WorkersShelf
from autocron_web.pool.wire import Kind, WireError
from autocron_web.pool.worker import _Notice
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

#: `warm` lets the pool learn that the task is short; `wait` stands for a job that turns out to take its time.
SHORT = """
    @autocron.delay
    def work(number, kind=""):
        note("ran", number)
        if kind == "kill" and not os.path.exists("killed"):
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "wait":
            note("waits", number)
            until(lambda: os.path.exists("released"), 60)
        if kind == "hang":
            threading.Event().wait()
        return number

    def warm():
        work.enqueue_many([(-1,)] * 20)[-1].get(20)
        until(lambda: len(noted("ran")) == 20)
        os.unlink("ledger")

    def among(count, kind, **options):
        '''So many jobs, one of them in the middle of this kind; that one, and the others.'''
        before = work.enqueue_many([(number,) for number in range(count // 2)])
        other = work.options(**options).enqueue(count // 2, kind)
        behind = work.enqueue_many([(number,) for number in range(count // 2 + 1, count)])
        return other, before + behind
    """


def job(number: int, payload: bytes = b"[]") -> Job:
    return Job(f"id-{number}", "shop.tell", number, number, queue="ä", attempt=number, payload=payload)


@pytest.fixture
def both() -> Iterator[tuple[Shelf, WorkersShelf]]:
    with closing(Shelf()) as ours:
        theirs = WorkersShelf(os.dup(ours.workers_end))
        with closing(theirs._socket):
            yield ours, theirs


@pytest.mark.once
def test_a_worker_takes_jobs_in_their_order_and_what_it_has_not_taken_can_be_taken_back(
    both: tuple[Shelf, WorkersShelf],
) -> None:
    ours, theirs = both
    for number in range(5):
        assert ours.put(job(number), last=number == 0)
    first = theirs.take()
    assert first is not None
    assert first.kind == Kind.RUN
    assert first.blob == b"[]"
    assert first.head == {
        "id": "id-0", "task": "shop.tell", "queue": "ä", "attempt": 0, "created": 0, "codec": "json",
        "last": True, "shared": False,
    }  # fmt: skip
    second = theirs.exchange(Done("id-0", "json", 0.25, b"\0"))
    assert second is not None
    assert (second.head["id"], second.head["last"]) == ("id-1", False)
    assert ours.clear() == ["id-2", "id-3", "id-4"]
    assert theirs.take() is None
    assert theirs.exchange(Done("id-1", "json", 0.25, b"")) is None, "the line is the way to tell it"
    assert ours.done() == [Done("id-0", "json", 0.25, b"\0")]


@pytest.mark.once
def test_what_is_too_large_or_too_much_goes_another_way(both: tuple[Shelf, WorkersShelf]) -> None:
    ours, theirs = both
    assert not ours.put(job(1, b"x" * shelf.LARGEST), last=True)
    assert not ours.put(job(1)._replace(task="x" * 70_000), last=True)
    number = 0
    while ours.put(job(number, b"x" * 1000), last=True):
        number += 1
    assert number > 50
    assert theirs.exchange(Done("id", "json", 0.1, b"x" * shelf.LARGEST)) is None
    assert len(ours.clear()) == number, "nothing was taken for that"


@pytest.mark.once
def test_rubbish_on_a_shelf_is_a_wire_error(both: tuple[Shelf, WorkersShelf]) -> None:
    ours, theirs = both
    theirs._socket.send(b"rubbish")
    with pytest.raises(WireError, match="7 bytes"):
        ours.done()


def test_only_the_job_that_was_in_hand_has_crashed(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(SHORT)
    way("""
        warm()
        killed, others = among(600, "kill")
        equal([r.get(60) for r in [*others, killed]], [r.get() for r in others] + [300])
        ran = sorted(int(line.split()[1]) for line in noted("ran"))
        equal(ran, sorted([*range(600), 300]))
        equal({r.attempt for r in others}, {1})
        equal(killed.attempt, 2)
        """)


def test_what_lies_behind_a_job_that_takes_its_time_goes_to_others(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(SHORT)
    way("""
        warm()
        slow, others = among(600, "wait")
        until(lambda: noted("waits"), 30)
        until(lambda: all(r.is_ready for r in others), 60)
        equal(slow.status, "running")
        Path("released").touch()
        equal(slow.get(20), 300)
        equal({r.attempt for r in [slow, *others]}, {1})
        """)


def test_a_job_that_lies_ready_can_be_cancelled(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(SHORT)
    way("""
        warm()
        jobs = work.enqueue_many([(0, "wait"), *[(number,) for number in range(1, 100)]])
        until(lambda: noted("waits"), 20)
        for number in (1, 2, 50, 99):
            assert jobs[number].cancel()
            until(lambda: jobs[number].status == "cancelled")
        Path("released").touch()
        until(lambda: all(r.is_ready for r in jobs), 30)
        equal([n for n, r in enumerate(jobs) if r.status == "cancelled"], [1, 2, 50, 99])
        ran = sorted(int(line.split()[1]) for line in noted("ran"))
        equal(ran, [n for n in range(100) if n not in (1, 2, 50, 99)])
        """, workers=1)  # fmt: skip


def test_a_timeout_ends_the_job_that_hangs_and_none_of_its_neighbours(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(SHORT)
    way("""
        warm()
        hangs, others = among(400, "hang", timeout=0.3)
        until(lambda: hangs.is_ready, 30)
        assert "longer than its timeout of 0.3 s" in hangs.error_message, hangs.error_message
        equal(sorted(r.get(30) for r in others), sorted({*range(400)} - {200}))
        equal({r.attempt for r in [hangs, *others]}, {1})
        """)


def test_each_job_keeps_what_it_has_printed_however_that_was_done(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def speak(number):
            if number % 100 == 50:
                subprocess.run(["echo", "child", str(number)], check=True)
            elif number % 5 == 0:
                print("python", number)
            elif number % 5 == 1:
                os.write(2, f"system {number}\\n".encode())
        """)
    way("""
        def spoken(n):
            if n % 100 == 50:
                return f"child {n}\\n"
            return f"python {n}\\n" if n % 5 == 0 else f"system {n}\\n" if n % 5 == 1 else None

        speak.enqueue_many([(2,)] * 20)[-1].get(20)
        jobs = speak.enqueue_many([(number,) for number in range(500)])
        until(lambda: all(r.is_ready for r in jobs), 60)
        said = {n: (r.output, spoken(n)) for n, r in enumerate(jobs)}
        equal({n: pair for n, pair in said.items() if pair[0] != pair[1]}, {})
        """)


@pytest.mark.once
def test_a_sign_to_stop_that_comes_too_late_is_for_no_other_job(tmp_path: Path) -> None:
    out, into = os.pipe()
    notice = _Notice(out)
    notice.job = "second"
    os.write(into, b'["first", "cancelled"]\n')
    assert notice.read() is None
    assert notice.is_given("first")
    assert not notice.is_given("second")
    assert notice.reason() is None
    os.write(into, b'["second", "its timeout"]\n')
    assert notice.read() == "its timeout"
    assert notice.read() is None, "the next signal comes from somebody else"
    assert notice.is_given("second")


@pytest.mark.once
def test_a_sign_to_stop_that_comes_too_early_is_kept_for_its_job(tmp_path: Path) -> None:
    out, into = os.pipe()
    notice = _Notice(out)
    notice.job = "first"
    os.write(into, b'["second", "line\\nline"]\n["third", "cancelled"]\n["fou')
    assert notice.read() is None
    os.write(into, b'rth", "cancelled"]\n')
    assert notice.read() is None
    for job, reason in (
        ("second", "line\nline"),
        ("third", "cancelled"),
        ("fourth", "cancelled"),
        ("fifth", None),
    ):
        notice.job = job
        assert notice.reason() == reason
    os.close(into)
    os.close(out)
