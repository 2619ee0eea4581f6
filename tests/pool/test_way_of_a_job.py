"""The way of a job, with real processes: what a call promises, and what its Result says."""

from __future__ import annotations

from collections.abc import Callable

from pool_way import Way, way, with_tasks  # noqa: F401


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
        equal((r.is_ready, r.is_ready(), r.has_error), (False, False, False))
        equal((r.result, r.error_message, r.reason, r.finished, r.attempt), (None, None, None, None, 1))
        text = raised(autocron.ResultTimeout, r.get, timeout=0.05)
        equal(text, f"shop.hold is still running after 0.05 s (job {r.id})")
        raised(TimeoutError, r.get, 0)

        release("a")
        equal(r.get(timeout=10), "a")
        equal((r.get(), r.result, r.status), ("a", "a", "done"))
        equal((r.is_ready, r.is_ready(), r.is_waiting(), r.has_error), (True, True, False, False))
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
        equal((r.status, r.has_error), ("error", True))
        equal((r.is_ready(), r.is_waiting()), (True, False))
        equal((r.result, r.attempt), (None, 1))
        """)
    assert "fail failed" in script.stderr  # logged on autocron_web.task, for whoever looks at the terminal
    assert "no such user: eve" in script.stderr


def test_40_and_43_whatever_a_task_raises_ends_only_the_task(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
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


def test_52_a_result_that_cannot_be_stored_does_not_make_the_job_fail(
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
        equal((r.get(10), r.status, r.is_ready(), r.has_error), (None, "done", True, False))
        reason = "the result was not stored: the result (_thread.lock) cannot be stored: "
        equal(r.reason[:len(reason)], reason)
        equal(noted("ran"), ["ran"])
        r = huge()
        equal(r.get(10), None)
        assert "the limit is 1,048,576" in r.reason, r.reason
        equal(add(1, 2).get(10), 3)
        """)


def test_55_async_tasks_share_one_event_loop(way: Way, with_tasks: Callable[[str], None]) -> None:
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
