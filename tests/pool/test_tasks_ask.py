"""What a running task asks of its pool, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autocron_web.store.sqlite import SqliteStore
from pool_way import Way, store, way, with_tasks  # noqa: F401


def test_a_task_can_use_tasks(way: Way, with_tasks: Callable[[str], None], store: SqliteStore) -> None:
    with_tasks("""
        @autocron.delay
        def family():
            children = add.enqueue_many([(i,) for i in range(5)])
            values = [r.get(10) for r in children]
            failed = fail("child")
            text = raised(autocron.JobFailed, failed.get, 10)
            assert "no such user: child" in text, text
            raised(autocron.ResultTimeout, tell.options(hours=1).enqueue("no").get, 0.05)
            return values

        @autocron.delay
        def police():
            waiting = tell.options(hours=1).enqueue("never")
            equal((waiting.cancel(), waiting.status, waiting.cancel()), (True, "cancelled", False))
            running = hold("prisoner")
            until(lambda: noted("begin prisoner"))
            equal(running.cancel(), True)
            assert "cancelled" in raised(autocron.JobCancelled, running.get, 10)
            (me,) = autocron.get_results(task="more.police")
            equal((me.status, me.attempt), ("running", 1))
            equal(autocron.in_worker(), True)
            return len(autocron.get_results())

        @autocron.delay
        def threads():
            results = []
            def ask(i):
                results.append(add(i).get(10))
            several = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
            for thread in several: thread.start()
            for thread in several: thread.join()
            return sorted(results)

        @autocron.delay
        def refuse():
            raised(autocron.NotStorable, add, object())
            raised(TypeError, add)
            equal((autocron.start("other.db"), autocron.stop(), autocron.leave()), (False, True, None))

        @autocron.delay
        def fan_out(n):
            return len(tell.options(hours=1).enqueue_many([("x" * 100,)] * n))
        """)
    way("""
        r = family()
        equal(r.get(20), [10, 11, 12, 13, 14])
        equal(police().get(20), 11)
        equal(threads().get(20), [10, 11, 12, 13, 14, 15, 16, 17])
        equal(refuse().get(20), None)
        equal(fan_out(5000).get(20), 5000)
        """)
    jobs = store.jobs(limit=10_000)
    (family,) = (job for job in jobs if job.task == "more.family")
    children = [job for job in jobs if job.parent == family.id]
    assert sorted(job.task for job in children) == ["shop.add"] * 5 + ["shop.fail", "shop.tell"]
    assert family.parent is None


def test_a_task_can_look_at_many_large_results(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def large():
            return "x" * 1_000_000

        @autocron.delay
        def look():
            return sum(len(r.result) for r in autocron.get_results(task="more.large"))
        """)
    way("""
        for r in [large() for _ in range(10)]:
            r.get(10)
        r = look()
        equal((r.get(10), r.attempt), (10_000_000, 1))
        """)


def test_what_one_task_asks_for_wrongly_harms_no_other(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def wrong(word):
            if word == "limit":
                autocron.get_results(limit="many")
            elif word == "queue":
                add.options(queue="\\ud800").enqueue(1)
            elif word == "priority":
                add.options(priority=2**70).enqueue(1)
            elif word == "due":
                add.options(weeks=1e15).enqueue(1)
            elif word == "backoff":
                raise ValueError("tried again at once, or in 300 years")
        """)
    way("""
        for word in ("limit", "queue", "priority", "due"):
            r = wrong(word)
            until(lambda: r.is_ready or r.has_error, 5)
            equal((word, r.attempt), (word, 1))
        for backoff in (0.0, 9e9):
            r = wrong.options(retries=1_000, backoff=backoff).enqueue("backoff")
            until(lambda: r.error_message, 5)
            r.cancel()
        equal(add(1).get(5), 11)
        """)


def test_a_task_that_forks_ends_once(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def twins():
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            return "parent" if pid else "child"

        @autocron.delay
        def bad_twin():
            pid = os.fork()
            if not pid:
                raise ValueError("in the child")
            os.waitpid(pid, 0)
            return "parent"
        """)
    way("""
        equal([twins().get(10), bad_twin().get(10)], ["parent", "parent"])
        equal(add(1).get(10), 11)
        """)


@pytest.mark.once
def test_the_largest_arguments_and_results_travel(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def echo(text, *, times=1):
            return text * times

        @autocron.delay
        def relay(text):
            return echo(text).get(10)
        """)
    way("""
        text = "x" * (1_048_576 - 20)
        results = [echo(text) for _ in range(3)]  # more than a socket holds
        assert [r.get(20) for r in results] == [text] * 3
        assert relay(text).get(20) == text
        text = raised(autocron.NotStorable, echo, "x" * 1_048_576)
        assert "the limit is 1,048,576: keep the data in a file or a table, and pass its name" in text, text
        """)


def test_threads_that_a_task_leaves_behind_go_on(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def leave_behind(n):
            def go_on():
                for i in range(n):
                    tell(f"{threading.current_thread().name} {i}")
            for name in "abc":
                threading.Thread(target=go_on, name=name).start()
        """)
    way(
        """
        leave_behind(30).get(10)
        until(lambda: len(noted()) == 90, 20)
        equal(add(1).get(10), 11)
        equal(len(set(noted())), 90)
        equal({r.attempt for r in autocron.get_results(1000)}, {1})
        """,
        workers=1,
    )


def test_a_result_that_a_task_returns_is_not_waited_for(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def chain():
            return add(1)
        """)
    way(
        """
        r = chain()
        equal((r.get(10), r.status), (None, "done"))
        assert "the result (autocron_web.results.Result) cannot be stored" in r.reason, r.reason
        """,
        workers=1,
    )


def test_a_task_with_two_decorators_is_one_task(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.cron("0 0 0 1 1")
        @autocron.delay(name="nightly")
        def clean():
            note("cleaned")

        @autocron.delay
        @autocron.delay
        def twice():
            note("twice")
        """)
    way("""
        clean().get(10)
        twice().get(10)
        time.sleep(0.2)  # a task of a task would call itself for ever
        equal(noted(), ["cleaned", "twice"])
        equal(sorted(r.task for r in autocron.get_results()), ["more.twice", "nightly"])
        """)
