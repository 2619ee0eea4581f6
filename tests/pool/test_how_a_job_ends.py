"""How a job ends: by tries, timeouts and cancels, too late, and how long its result is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autocron_web.jobs import now
from autocron_web.store.sqlite import SqliteStore
from pool_way import Way, store, way, with_tasks  # noqa: F401


def test_a_task_that_fails_is_tried_again_after_its_backoff(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks("""
        @autocron.delay(retries=2, backoff=0.2)
        def flaky(word, failures):
            note(word, time.time())
            if len(noted(word)) <= failures:
                raise OSError(f"not yet: {word}")
            return "at last"
        """)
    way("""
        r = flaky("a", 2)
        until(lambda: r.error_message)
        equal((r.status in ("waiting", "running"), "not yet: a" in r.error_message), (True, True))
        equal((r.get(10), r.attempt, r.status), ("at last", 3, "done"))
        first, second, third = (float(line.split()[1]) for line in noted("a"))
        assert 0.2 <= second - first < 1.5 and 0.4 <= third - second < 2, (second - first, third - second)
        assert "not yet: a" in r.error_message  # that of the last attempt that failed
        equal(r.has_error, False)

        r = flaky("b", 9)
        assert "not yet: b" in raised(autocron.JobFailed, r.get, 10)
        equal((r.attempt, len(noted("b"))), (3, 3))
        r = flaky.options(retries=0).enqueue("c", 9)
        raised(autocron.JobFailed, r.get, 10)
        equal(r.attempt, 1)
        """)


def test_a_timeout_ends_a_task_whatever_it_does(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay(timeout=0.4)
        def sleeper():
            print("good night", flush=True)
            child = subprocess.Popen(["sleep", "300"])
            note("child", child.pid)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)

        @autocron.delay(timeout=0.4)
        def c_loop():
            deque(itertools.count(), maxlen=0)  # holds the GIL for ever

        @autocron.delay(timeout=0.4, retries=1, backoff=0)
        def twice():
            note("twice")
            time.sleep(300)

        @autocron.delay(timeout=30)
        def quick():
            return "quick"
        """)
    way("""
        results = [sleeper(), c_loop(), twice()]
        for r in results:
            text = raised(autocron.JobFailed, r.get, 20)
            assert "the job ran longer than its timeout of 0.4 s and was ended" in text, text
        equal([r.attempt for r in results], [1, 1, 2])
        equal([r.status for r in results], ["error"] * 3)
        assert 0.4 <= (results[0].finished - results[0].started).total_seconds() < 9  # with 5 of grace
        child = int(noted("child")[0].split()[1])
        until(lambda: not os.path.exists(f"/proc/{child}"))
        equal(len(noted("twice")), 2)
        equal(quick().get(10), "quick")
        equal(results[0].output, "good night\\n")
        """)


@pytest.mark.once
def test_a_job_can_be_cancelled(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay(retries=5)
        def stubborn():
            child = subprocess.Popen(["sleep", "300"])
            note("pids", os.getpid(), child.pid)
            deque(itertools.count(), maxlen=0)
        """)
    way("""
        waiting = tell.options(hours=1).enqueue("never")
        equal((waiting.cancel(), waiting.status, waiting.cancel()), (True, "cancelled", False))
        text = raised(autocron.JobCancelled, waiting.get, 10)
        equal(text, "shop.tell was cancelled: cancelled by a call of cancel()")
        equal((waiting.is_waiting(), waiting.is_ready(), waiting.has_error), (False, True, False))

        running = stubborn()
        until(lambda: noted("pids"))
        equal(running.cancel(), True)
        text = raised(autocron.JobCancelled, running.get, 10)
        assert text.startswith("more.stubborn was cancelled: cancelled"), text
        for pid in noted("pids")[0].split()[1:]:
            until(lambda: not os.path.exists(f"/proc/{pid}"))
        equal((running.attempt, running.cancel()), (1, False))

        done = add(1)
        done.get(10)
        equal((done.cancel(), done.status), (False, "done"))
        """)


@pytest.mark.once
def test_a_cancel_hits_no_other_job(way: Way, with_tasks: Callable[[str], None]) -> None:
    """The worker ends its job while the cancel is on its way: the next job is none of its business."""
    with_tasks("""
        @autocron.delay
        def short(i):
            time.sleep(0.001)
            note("ran", i)
        """)
    way("""
        for turn in range(15):
            results = short.enqueue_many([(i,) for i in range(20)])
            asked = {results[i].id for i in (3, 7, 8, 15)}
            for r in results:
                if r.id in asked:
                    until(lambda: r.status != "waiting")
                    r.cancel()
            until(lambda: not any(r.is_waiting for r in results))
            ends = {r.id: (r.status, r.reason or r.error_message) for r in results}
            wrong = {id: end for id, end in ends.items() if end[0] != "done" and id not in asked}
            equal(wrong, {})
        """)


def test_a_job_that_is_claimed_but_has_not_begun_can_be_cancelled(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    """Short jobs are claimed ahead of the workers: the store says of them that they run."""
    with_tasks("""
        @autocron.delay
        def nap(seconds):
            time.sleep(seconds)
        """)
    way(
        """
        for turn in range(5):
            for r in nap.enqueue_many([(0,)] * 60):
                r.get(10)
            slow, held = autocron.engine.engine.enqueue([
                task.job(task.defaults, args, {}) for task, args in ((nap, (0.04,)), (hold, (f"h{turn}",)))])
            until(lambda: held.status == "running")
            equal(held.cancel(), True)
            until(lambda: held.status == "cancelled", 5)
        equal(add(1).get(10), 11)
        """,
        workers=1,
    )


def test_a_job_that_begins_too_late_does_not_begin(way: Way, store: SqliteStore) -> None:
    script = way(
        """
        held = hold("a")
        until(lambda: noted("begin"))
        r = tell.options(expires=0.2).enqueue("too late")
        kept = tell.options(expires=60).enqueue("in time")
        time.sleep(0.25)
        release("a")
        kept.get(10)
        print(r.id, flush=True)
        try:
            r.get(20)
        except autocron.JobCancelled as error:
            print(error, flush=True)
        equal(noted()[2:], ["in time"])
        """,
        workers=1,
        wait=False,
    )
    script.wait_for("\n")
    store.purge(now())  # the monitor does so once a minute
    script.succeed()
    assert "shop.tell was cancelled: expired" in script.stdout


def test_a_result_is_kept_for_its_time(way: Way, store: SqliteStore) -> None:
    way("""
        short = add.options(result_ttl=100).enqueue(1)
        usual, failed = add(2), fail("x")
        equal((short.get(10), usual.get(10)), (11, 12))
        raised(autocron.JobFailed, failed.get, 10)
        """)
    tasks = {job.payload: job for job in store.jobs()}
    kept = sorted(
        ((job.expires or 0) - (job.finished or 0)) // 1_000_000 for job in tasks.values() if job.finished
    )
    assert kept == [100, 1800, 14 * 86400]
    store.purge(now() + 101 * 1_000_000)
    assert len(store.jobs()) == 2
    store.purge(now() + 14 * 86400 * 1_000_000)
    assert store.jobs() == []
