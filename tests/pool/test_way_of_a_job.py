"""The way of a job, with real processes: what a call promises, and what its Result says on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from autocron_web.jobs import Job, new_id, now
from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, pool_processes, wait_until
from pool_app import alive, pids, wait_for_pool
from pool_way import SHOP, Way, store, way, with_tasks  # noqa: F401

# -- a call and its Result -------------------------------------------------------------------------


def test_a_result_says_what_has_become_of_its_job(way: Way) -> None:
    way("""
        import re
        before = datetime.datetime.now(datetime.UTC)
        r = hold("a")
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r.id), r.id
        equal(r.task, "shop.hold")
        equal(repr(r), f"<Result shop.hold {r.id}>")
        until(lambda: r.status == "running")
        equal((r.is_waiting, r.is_waiting(), bool(r.is_waiting)), (True, True, True))
        equal((r.is_ready, r.is_ready(), r.has_error, r.has_error()), (False, False, False, False))
        equal((r.result, r.error_message, r.reason, r.finished, r.attempt), (None, None, None, None, 1))
        text = raised(autocron.ResultTimeout, r.get, timeout=0.05)
        equal(text, f"shop.hold is still running after 0.05 s (job {r.id})")
        raised(TimeoutError, r.get, 0)

        release("a")
        equal(r.get(timeout=10), "a")
        equal((r.get(), r.result, r.status), ("a", "a", "done"))
        equal((r.is_ready, r.is_ready(), r.is_waiting(), r.has_error()), (True, True, False, False))
        equal((r.error_message, r.reason, r.output, r.progress), (None, None, None, None))
        after = datetime.datetime.now(datetime.UTC)
        assert before <= r.created <= r.started <= r.finished <= after
        equal(r.due, r.created)
        equal(repr(r.is_ready), "True")

        (again,) = autocron.get_results(task="shop.hold")
        equal((again.id, again.get(1)), (r.id, "a"))
        equal(autocron.get_results(task="shop.hold", state="waiting"), [])
        """)


def test_what_a_call_returns_comes_back_exactly(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def same(*args, **keywords):
            return args, keywords
        """)
    way("""
        args = (None, True, 2**70, 1.5, "ä\\0\\ud800", b"\\xff", [1, (2,)], {3: {4}}, Path("x"))
        equal(same(*args, key=args).get(10), (args, {"key": args}))
        equal(add(1).get(10), 11)
        equal(add(b=1, a=2).get(10), 3)
        """)


def test_a_failure_shows_the_users_line(way: Way) -> None:
    script = way("""
        r = fail("eve")
        text = raised(autocron.JobFailed, r.get, 10)
        assert text.startswith("shop.fail failed: Traceback (most recent call last):"), text
        assert 'raise ValueError(f"no such user: {word}")  # the line of the user' in text, text
        assert text.endswith("ValueError: no such user: eve"), text
        assert "shop.py" in text and "execution.py" not in text, text
        assert r.error_message in text
        equal((r.status, r.has_error, r.has_error()), ("error", True, True))
        equal((r.is_ready(), r.is_waiting()), (True, False))
        equal((r.result, r.attempt), (None, 1))
        """)
    assert "fail failed" in script.stderr  # logged on autocron_web.task, for whoever looks at the terminal
    assert "no such user: eve" in script.stderr


def test_whatever_a_task_raises_ends_only_the_task(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no words")
            __repr__ = __str__

        @autocron.delay
        def poison(word):
            if word == "exit":
                sys.exit(3)
            if word == "interrupt":
                raise KeyboardInterrupt
            if word == "generator":
                raise GeneratorExit
            if word == "mute":
                raise Mute
            if word == "deep":
                def deeper(): return deeper()
                deeper()
            if word == "surrogate":
                raise ValueError("\\ud800")
            if word == "group":
                raise ExceptionGroup("both", [ValueError(1), TypeError(2)])
            if word == "long":
                raise ValueError("x" * 10_000_000)
            if word == "closed":
                sys.stdout.close(); sys.stderr.close()
                raise ValueError("silent")

        @autocron.delay
        def whoami():
            return os.getpid()
        """)
    way(
        """
        worker = whoami().get(10)
        kinds = {}
        for word in "exit interrupt generator mute deep surrogate group long closed".split():
            r = poison(word)
            message = raised(autocron.JobFailed, r.get, 10)
            equal((word, r.attempt), (word, 1))
            assert len(r.error_message.encode()) <= 64 * 1024
            kinds[word] = r.error_message.splitlines()[-1][:60]
            equal(whoami().get(10), worker)
        equal(kinds["exit"], "SystemExit: 3")
        equal(kinds["interrupt"], "KeyboardInterrupt")
        assert "Mute" in kinds["mute"], kinds
        assert kinds["deep"].startswith("RecursionError"), kinds
        """,
        workers=1,
    )


def test_a_result_that_cannot_be_stored_does_not_make_the_job_fail(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks("""
        @autocron.delay
        def lock():
            note("ran")
            return threading.Lock()

        @autocron.delay
        def huge():
            return "x" * (1 << 21)
        """)
    way("""
        r = lock()
        equal((r.get(10), r.status, r.is_ready(), r.has_error()), (None, "done", True, False))
        reason = "the result was not stored: the result (_thread.lock) cannot be stored: "
        equal(r.reason[:len(reason)], reason)
        equal(noted("ran"), ["ran"])
        r = huge()
        equal(r.get(10), None)
        assert "the limit is 1,048,576" in r.reason, r.reason
        equal(add(1, 2).get(10), 3)
        """)


def test_async_tasks_share_one_event_loop(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        async def nap(seconds):
            await asyncio.sleep(seconds)
            return id(asyncio.get_running_loop())

        @autocron.delay
        async def stumble():
            await asyncio.sleep(0)
            raise LookupError("nothing there")

        @autocron.delay
        async def order(word):
            return await tell(word)
        """)
    way("""
        r = stumble()
        assert "LookupError: nothing there" in raised(autocron.JobFailed, r.get, 10)
        equal(order("x").get(10) > 0, True)
        equal(noted("x"), ["x"])
        """)
    way("equal(nap(0.01).get(10), nap(0).get(10))", workers=1)


def test_a_result_can_be_awaited(way: Way) -> None:
    way("""
        async def main():
            loop = asyncio.get_running_loop()
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    await asyncio.sleep(0.01)
                    turns += 1

            counting = asyncio.create_task(count())
            r = await add.aenqueue(1, 2)
            equal(await r, 3)
            equal(await r, 3)
            equal(await (await add.options(priority=3).aenqueue(5)), 15)
            equal(await asyncio.gather(*[add(i) for i in range(20)]), list(range(10, 30)))
            held = await hold.aenqueue("a")
            try:
                await asyncio.wait_for(held, 0.3)
            except TimeoutError:
                pass
            else:
                raise AssertionError("it was held")
            assert turns > 10, turns  # the loop went on meanwhile
            waiting = asyncio.create_task(held._aget())
            await asyncio.sleep(0)
            release("a")
            equal(await waiting, "a")
            r = fail("x")
            try:
                await r
            except autocron.JobFailed as error:
                assert "no such user: x" in str(error)
            counting.cancel()

        asyncio.run(main())
        """)


def test_a_loop_that_was_closed_while_it_waited_harms_nobody(way: Way) -> None:
    script = way("""
        held = hold("a")
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(held._aget())
        loop.run_until_complete(asyncio.sleep(0.3))
        loop.close()
        release("a")
        equal(held.get(10), "a")
        equal([add(i).get(10) for i in range(5)], list(range(10, 15)))
        equal([thread.name for thread in threading.enumerate()].count("autocron-link"), 1)
        """)
    assert "RuntimeError" not in script.stderr


def test_call_runs_here_and_now(way: Way) -> None:
    way("""
        equal(add.call(1, b=2), 3)
        raised(ValueError, fail.call, "x")
        equal(tell.call("here"), os.getpid())
        equal(autocron.get_results(), [])
        equal(autocron.in_worker(), False)
        autocron.progress(1, 2)  # outside a task: said to nobody
        """)


# -- when ------------------------------------------------------------------------------------------


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
        late = tell.options(seconds=1.2).enqueue("late")
        soon = tell.options(seconds=0.2).enqueue("soon")
        both = tell.options(seconds=0.6).enqueue("both")
        for r in (late, soon, both):
            r.get(10)
        equal(noted(), ["soon", "both", "late"])
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


# -- how it ends -----------------------------------------------------------------------------------


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
        equal(r.has_error(), False)

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
        equal((waiting.is_waiting(), waiting.is_ready(), waiting.has_error()), (False, True, False))

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


# -- what it says on the way -----------------------------------------------------------------------


def test_progress_can_be_seen_while_the_task_runs(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def count(total):
            for i in range(total + 1):
                autocron.progress(i, total, f"row {i}")
            hold.call("a")
            autocron.progress(total + 1, None, "x" * 9_000_000)

        @autocron.delay
        def wrong():
            autocron.progress(object())
        """)
    way("""
        r = count(1000)
        equal(r.progress, None) if r.status == "waiting" else None
        until(lambda: r.progress and r.progress.done == 1000)
        equal(r.progress, (1000, 1000, "row 1000"))
        equal((r.progress.total, r.progress.note, r.status), (1000, "row 1000", "running"))
        release("a")
        r.get(10)
        equal(r.progress, (1001, None, "x" * 1000))
        raised(autocron.JobFailed, wrong().get, 10)
        equal(add(1).get(10), 11)
        """)


def test_output_is_kept_with_the_job_and_shown_by_the_app(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks("""
        print("what the module prints")

        @autocron.delay
        def talk(lines):
            print("first line")
            print("on stderr", file=sys.stderr)
            subprocess.run(["echo", "from a child"])
            os.write(1, b"\\xff raw\\n")
            for i in range(lines):
                print(f"line {i} " + "x" * 40)
            print("last line, unfinished", end="")

        @autocron.delay
        def silent():
            pass
        """)
    script = way(
        """
        r = talk(0)
        r.get(10)
        lines = {"first line", "from a child", "last line, unfinished", "on stderr"}
        equal(set(r.output.splitlines()), lines | {"\\N{REPLACEMENT CHARACTER} raw"})
        r = silent()
        r.get(10)
        equal(r.output, None)
        r = talk(1000)
        r.get(10)
        assert len(r.output.encode()) <= 8192, len(r.output)
        assert "first line" not in r.output and r.output.endswith("last line, unfinished"), r.output[-100:]
        """,
        workers=1,
    )
    assert script.stdout.count("first line") == 2
    assert "from a child" in script.stdout
    assert "line 999" in script.stdout
    assert script.stderr.count("on stderr") == 2


def test_what_a_worker_prints_while_it_loads_is_no_jobs_output(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks('print("what the module prints")')
    script = way("""
        for _ in range(4):
            r = add(1)
            r.get(10)
            equal(r.output, None)
        """)
    assert "what the module prints" in script.stdout


def test_output_that_nobody_reads_stops_nothing(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def flood():
            for _ in range(2000):
                print("x" * 1000)
            return "through"
        """)
    way("""
        out, into = os.pipe()  # nobody reads it
        autocron.stop(10)
        saved = os.dup(1)
        os.dup2(into, 1)
        start()
        os.dup2(saved, 1)
        equal(flood().get(20), "through")
        """)


# -- tasks that use tasks --------------------------------------------------------------------------


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


# -- processes -------------------------------------------------------------------------------------


def test_the_first_start_makes_the_pool_and_all_others_join_it(
    way: Way, run_script: RunScript, tmp_path: Path
) -> None:
    first = way(
        """
        if started:
            equal((start(), autocron.start("shop.db")), (False, False))
            print("up", flush=True)
            until(lambda: os.path.exists("enough"), 30)
        else:
            equal(add(1).get(10), 11)
            began = time.monotonic()
            equal(autocron.stop(20), True)
            assert time.monotonic() - began < 1.5  # it was not the last one: there is nothing to wait for
        """,
        wait=False,
    )
    first.wait_for("up")
    pool = wait_for_pool()
    run_script(tmp_path / "application.py")
    assert (pids("monitor"), pids("worker")) == pool
    (tmp_path / "enough").touch()
    first.succeed()
    assert pool_processes() == {}


def test_stop_returns_when_all_is_gone(way: Way, tmp_path: Path, home: Path) -> None:
    script = way("""
        child = subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True).stdout
        held = hold("a")
        until(lambda: noted("begin"))
        threading.Timer(0.3, release, "a").start()
        left = tell.options(hours=1).enqueue("left")
        equal(autocron.stop(20), True)
        pools = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"autocron_web/pool" in p.read_bytes()
                 and os.environ["AUTOCRON_HOME"].encode() in p.read_bytes()]
        equal(pools, [])
        equal((held.status, held.result, left.status), ("done", "a", "waiting"))  # it was drained
        equal(autocron.stop(20), True)  # again: nothing to do
        after = tell("after")
        equal(after.status, "waiting")  # stored, for whoever starts next
        raised(autocron.ResultTimeout, after.get, 0.1)
        equal(start(), True)
        equal(after.get(10) > 0, True)
        """)
    assert script.stderr == ""
    assert sorted(path.name for path in home.iterdir()) == [
        "shop.db",
        "shop.db-shm",
        "shop.db-wal",
        "shop.db.lock",
    ] or (sorted(path.name for path in home.iterdir()) == ["shop.db", "shop.db.lock"])


def test_jobs_that_were_left_waiting_run_after_the_next_start(way: Way, store: SqliteStore) -> None:
    way("""
        autocron.leave()
        for i in range(5):
            add(i)
        equal(len(autocron.get_results(state="waiting")), 5)
        """)
    assert {job.state for job in store.jobs()} == {"waiting"}
    way("""
        until(lambda: len(autocron.get_results(state="done")) == 5)
        equal(sorted(r.result for r in autocron.get_results()), [10, 11, 12, 13, 14])
        """)


def test_the_end_of_a_script_is_no_end_of_its_jobs(
    run_script: RunScript, way: Way, store: SqliteStore
) -> None:
    """A script that never calls stop: what it has stored is on disk, and its pool ends by itself."""
    run_script("from shop import *\nstart()\nfor i in range(3): add(i)\n")
    began = time.monotonic()
    wait_until(lambda: not pool_processes(), 20, "the end of the pool")
    assert time.monotonic() - began < 8
    assert len(store.jobs()) == 3
    way("until(lambda: len(autocron.get_results(state='done')) == 3)")


def test_the_job_of_an_unknown_task_waits_for_the_code_that_knows_it(
    way: Way, with_tasks: Callable[[str], None], tmp_path: Path
) -> None:
    renamed = """
        @autocron.delay{name}
        def {function}(word):
            note(word)
        """
    with_tasks(renamed.format(name="", function="report"))
    way("""
        r = report.options(seconds=0.2).enqueue("kept")
        autocron.stop(20)
        """)
    with_tasks(renamed.format(name="", function="summary"))
    way("""
        (r,) = autocron.get_results()
        until(lambda: r.reason == "unknown task")
        equal((r.status, r.attempt, r.is_waiting()), ("waiting", 0, True))
        summary("new").get(10)
        equal((r.status, r.attempt), ("waiting", 0))
        """)
    with_tasks(renamed.format(name="(name='more.report')", function="summary"))
    way("""
        (r,) = autocron.get_results(task="more.report")
        until(lambda: r.status == "done")
        equal((r.attempt, r.reason), (1, None))
        equal(noted(), ["new", "kept"])
        """)


def test_five_thousand_jobs_run_exactly_once(way: Way) -> None:
    way("""
        from collections import Counter

        words = [f"{i:04}" for i in range(5000)]
        results = tell.enqueue_many([(word,) for word in words[:4000]])

        def call(part):
            for word in part:
                tell(word)

        threads = [threading.Thread(target=call, args=(words[4000 + i::10],)) for i in range(10)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        until(lambda: len(noted()) >= 5000, 40)
        until(lambda: len(autocron.get_results(5001, state="done")) == 5000)
        equal(Counter(noted()), Counter(words))
        equal({r.attempt for r in autocron.get_results(5000)}, {1})
        """)


def test_an_app_that_forks_loses_nothing(way: Way) -> None:
    """Also without the warning of Python 3.12 about a fork of a process that has threads."""
    script = way(
        """
        equal(add(1).get(10), 11)
        children = []
        for number in range(4):
            pid = os.fork()
            if not pid:
                try:
                    results = [add(number, i) for i in range(20)]
                    equal([r.get(20) for r in results], [number + i for i in range(20)])
                    grandchild = os.fork()
                    if not grandchild:
                        equal(add(number).get(20), number + 10)
                        os._exit(0)
                    equal(os.waitpid(grandchild, 0)[1], 0)
                    os._exit(0)
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
            children.append(pid)
            equal(add(number, 100).get(20), number + 100)  # the parent goes on
        equal([os.waitpid(pid, 0)[1] for pid in children], [0] * 4)
        equal(len(autocron.get_results(1000)), 1 + 4 * 22)
        equal({r.status for r in autocron.get_results(1000)}, {"done"})
        """,
        env={"PYTHONWARNINGS": "error::DeprecationWarning"},
    )
    assert "Warning" not in script.stderr


def test_an_app_with_more_than_a_thousand_open_files(way: Way) -> None:
    way("""
        import resource

        autocron.stop(20)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 1200:
            sys.exit()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        files = [open(os.devnull) for _ in range(1100)]  # select(2) knows no descriptor above 1023
        equal(start(), True)
        equal([add(i).get(10) for i in range(5)], list(range(10, 15)))
        """)


def test_a_forked_child_that_exits_normally_takes_nothing_along(way: Way) -> None:
    way("""
        monitors = len(autocron.get_results())
        pid = os.fork()
        if not pid:
            sys.exit(0)  # with all that is registered for the exit
        equal(os.waitpid(pid, 0)[1], 0)
        equal(add(1).get(10), 11)
        """)


def test_after_a_fork_the_parent_still_notices_the_end_of_its_monitor(way: Way, tmp_path: Path) -> None:
    script = way(
        """
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        print("forked", flush=True)
        until(lambda: os.path.exists("enough"), 30)
        """,
        wait=False,
    )
    script.wait_for("forked")
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: pids("monitor") - {monitor}, 5, "another monitor")
    (Path(script.process.args[1]).parent / "enough").touch()  # type: ignore[index, arg-type]
    script.succeed()


def test_eight_processes_that_start_at_the_same_moment_share_one_pool(way: Way, tmp_path: Path) -> None:
    body = """
        print("started", started, flush=True)
        equal(add(1).get(20), 11)
        until(lambda: os.path.exists("enough"), 40)
        """
    wait = "print('at the gate', flush=True); until(lambda: os.path.exists('gate'), 30)"
    start = "def start(workers=2):"
    (tmp_path / "shop.py").write_text(SHOP.replace(start, f"{start}\n    {wait}"))
    scripts = [way(body, wait=False) for _ in range(8)]
    for script in scripts:
        script.wait_for("at the gate")
    (tmp_path / "gate").touch()
    for script in scripts:
        script.wait_for("started")
    answers = [script.stdout.split()[-1] for script in scripts]
    assert sorted(answers) == ["False"] * 7 + ["True"]
    wait_for_pool()
    (tmp_path / "enough").touch()
    for script in scripts:
        script.succeed()
    assert {script.stderr for script in scripts} == {""}


def test_a_job_whose_wake_was_lost_runs_all_the_same(way: Way, store: SqliteStore, tmp_path: Path) -> None:
    """Written by a process without a link, or while the monitor was stopped."""
    script = way(
        """
        add(1).get(10)
        print("up", flush=True)
        until(lambda: os.path.exists("enough"), 30)
        """,
        wait=False,
    )
    script.wait_for("up")
    from autocron_web import codec

    job = Job(new_id(), "shop.tell", now(), now(), payload=codec.dump_call(("unlinked",), {}))
    store.enqueue([job])
    began = time.monotonic()
    wait_until(lambda: (tmp_path / "ledger").exists(), 5, "the run of a job of which nobody told")
    assert time.monotonic() - began < 2.5
    (tmp_path / "enough").touch()
    script.succeed()


def test_calls_do_not_wait_for_a_monitor_that_is_stopped(way: Way, tmp_path: Path) -> None:
    script = way(
        """
        add(1).get(10)
        print("up", flush=True)
        until(lambda: os.path.exists("stopped"), 30)
        for i in range(400):  # more than the socket holds
            add(i)
        print("all stored", flush=True)
        until(lambda: not autocron.get_results(1, state="waiting"), 30)
        """,
        wait=False,
    )
    script.wait_for("up")
    (monitor,), workers = wait_for_pool()
    os.kill(monitor, signal.SIGSTOP)
    try:
        (tmp_path / "stopped").touch()
        script.wait_for("all stored", 10)
        assert pids("monitor") == {monitor}
        assert all(map(alive, workers))
    finally:
        os.kill(monitor, signal.SIGCONT)
    script.succeed()


# -- modes -----------------------------------------------------------------------------------------


def test_inline_runs_each_call_at_once_in_the_caller(way: Way, home: Path) -> None:
    way(
        """
        equal(started, False)
        r = tell.options(hours=1).enqueue("here")
        equal((r.status, r.is_ready(), r.get(), noted()), ("done", True, os.getpid(), ["here"]))
        r = fail("x")
        equal(r.has_error, True)
        assert "no such user: x" in raised(autocron.JobFailed, r.get)
        equal((r.attempt, r.cancel()), (1, False))
        raised(autocron.NotStorable, add, object())
        equal([r.task for r in autocron.get_results()], ["shop.fail", "shop.tell"])
        equal([r.task for r in autocron.get_results(state="done")], ["shop.tell"])

        @autocron.delay
        async def nap():
            await asyncio.sleep(0)
            return "rested"

        equal(nap().get(), "rested")

        async def main():
            equal(await add(1), 11)
            equal(await (await add.aenqueue(1)), 11)
            equal(await (await nap.aenqueue()), "rested")
            equal(await nap(), "rested")

        asyncio.run(main())
        equal(autocron.stop(), True)
        """,
        env={"AUTOCRON_MODE": "inline"},
    )
    assert list(home.iterdir()) == []


def test_off_stores_and_starts_nothing(way: Way, store: SqliteStore) -> None:
    way(
        """
        equal((started, autocron.stop()), (False, True))
        r = add(1)
        raised(autocron.ResultTimeout, r.get, 0.1)
        equal((r.status, r.cancel(), r.status), ("waiting", True, "cancelled"))
        add(2)
        """,
        env={"AUTOCRON_MODE": "off"},
    )
    assert pool_processes() == {}
    assert [job.state for job in store.jobs()] == ["waiting", "cancelled"]
    way("until(lambda: autocron.get_results(state='done'))")


def test_a_plain_script_can_wait_for_its_own_job(run_script: RunScript) -> None:
    """Without a guard: a worker executes the script too, up to the line that would wait."""
    script = run_script("""
import autocron_web as autocron

@autocron.delay
def add(a, b):
    return a + b

autocron.start("plain.db")
print("the sum is", add(1, 2).get(timeout=10))
assert autocron.stop(10)
""")
    assert script.stdout.splitlines().count("the sum is 3") == 1
