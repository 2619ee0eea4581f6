"""When a job runs, in which order, and which is stored once."""

from __future__ import annotations

from collections.abc import Callable

from autocron_web.store.sqlite import SqliteStore
from pool_way import Way, store, way, with_tasks  # noqa: F401


def test_a_job_runs_when_it_is_due(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay(seconds=0.4)
        def later():
            return time.time()

        @autocron.delay(hours=1, minutes=2, seconds=3)
        def much_later():
            pass

        def span(r):
            return round((r.due - r.created).total_seconds(), 6)
        """)
    way(
        """
        called = time.time()
        r = later()
        equal((r.status, span(r)), ("waiting", 0.4))
        ran = r.get(10)
        assert called + 0.4 <= ran <= called + 3, ran - called
        equal(span(much_later()), 3723)
        equal(span(add.options(minutes=10).enqueue(1)), 600)
        equal(span(much_later.options(days=1).enqueue()), 86400)
        equal(span(later.options(seconds=0).enqueue()), 0)

        utc = datetime.datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
        equal(add.options(schedule=utc).enqueue(1).due, utc)
        tokyo = datetime.datetime(2100, 1, 2, 12, 4, 5)  # TZ is Asia/Tokyo: nine hours before UTC
        equal(add.options(schedule=tokyo).enqueue(1).due, utc.replace(microsecond=0))
        past = add.options(schedule=datetime.datetime(1999, 1, 1)).enqueue(1)
        equal((past.due, past.get(10)), (past.created, 11))

        waiting = autocron.get_results(state="waiting")
        equal(len(waiting), 5)
        equal({r.attempt for r in waiting}, {0})
        """,
        env={"TZ": "Asia/Tokyo"},
    )


def test_an_earlier_job_is_not_kept_waiting_by_the_alarm_of_a_later_one(way: Way) -> None:
    way("""
        late = tell.options(seconds=60).enqueue("late")
        soon = tell.options(seconds=0.2).enqueue("soon")
        soon.get(20)
        both = tell.options(seconds=0.6).enqueue("both")
        both.get(20)
        assert late.cancel()
        equal(noted(), ["soon", "both"])
        """)


def test_many_calls_in_one_commit_keep_their_order(way: Way, store: SqliteStore) -> None:
    way(
        """
        held = hold("a")
        until(lambda: noted("begin"))
        results = tell.enqueue_many([("0",), {"word": "1"}, ["2"], *[(str(i),) for i in range(3, 20)]])
        equal([r.status for r in results], ["waiting"] * 20)
        text = raised(TypeError, tell.enqueue_many, [("ok",), "no tuple"])
        assert "'no tuple' is no call of shop.tell" in text, text
        raised(TypeError, tell.enqueue_many, [("ok",), ("one", "too many")])
        raised(autocron.NotStorable, tell.enqueue_many, [("ok",), (object(),)])
        equal(tell.enqueue_many([]), [])
        release("a")
        for r in results:
            r.get(10)
        equal(noted()[2:], [str(i) for i in range(20)])
        """,
        workers=1,
    )
    assert len(store.jobs()) == 21  # of a list with one wrong call none was stored


def test_jobs_of_higher_priority_run_first(way: Way) -> None:
    way(
        """
        held = hold("a")
        until(lambda: noted("begin"))
        jobs = [tell.options(priority=p).enqueue(f"{p}{word}") for word in "ab" for p in (0, 5, -5)]
        release("a")
        for r in jobs:
            r.get(10)
        equal(noted()[2:], ["5a", "5b", "0a", "0b", "-5a", "-5b"])
        """,
        workers=1,
    )


def test_a_unique_job_is_stored_once_while_it_is_not_finished(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks("""
        @autocron.delay(unique="args")
        def per_user(word, more=None):
            return hold.call(word)

        @autocron.delay(unique="task")
        def single(word):
            return hold.call(word)
        """)
    way("""
        first = per_user("a")
        until(lambda: noted("begin a"))
        equal({per_user("a").id, per_user("a").id}, {first.id})
        other = per_user("b")
        many = per_user.enqueue_many([("a",), ("c",), ("c",), ("b",)])
        equal([r.id for r in many], [first.id, many[1].id, many[1].id, other.id])
        assert len({first.id, other.id, many[1].id}) == 3
        for word in "abc":
            release(word)
        equal([r.get(10) for r in many], ["a", "c", "c", "b"])
        equal(len(noted("begin")), 3)
        fresh = per_user("a")
        assert fresh.id != first.id
        equal(fresh.get(10), "a")

        one = single("x")
        equal(single("y").id, one.id)
        release("x")
        equal(one.get(10), "x")
        assert single("x").id != one.id
        """)
