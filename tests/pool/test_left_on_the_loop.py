"""Coroutines that a job leaves on the event loop: they end with it, and hurt no other."""

from __future__ import annotations

import textwrap

from pool_way import MEET, Way, WithTasks, store, way, with_tasks  # noqa: F401

TASKS = """
    kept = set()

    def leave(coroutine):
        kept.add(asyncio.get_running_loop().create_task(coroutine))

    async def forever(word):
        note("left", word)
        try:
            await asyncio.sleep(600)
        finally:
            note("ended", word)

    async def exits(word):
        try:
            await asyncio.sleep(0.05 if word == "soon" else 600)
        finally:
            note("exits", word)
            raise SystemExit(word)

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                note("refused")

    async def begets(number):
        try:
            await asyncio.sleep(600)
        finally:
            note("begot", number)
            if number:
                leave(begets(number - 1))

    async def numbers():
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0.05)
            note("closed the generator")

    KINDS = {
        "forever": lambda: [leave(forever(word)) for word in "ab"],
        "exits": lambda: leave(exits("later")),
        "stubborn": lambda: leave(stubborn()),
        "begets": lambda: leave(begets(3)),
        "stop": lambda: asyncio.get_running_loop().call_later(0.01, asyncio.get_running_loop().stop),
        "exit in a call": lambda: asyncio.get_running_loop().call_later(0.01, sys.exit),
        "thread": lambda: leave(asyncio.to_thread(lambda: (time.sleep(0.3), note("thread")))),
    }

    @autocron.delay
    async def leaves(kind):
        KINDS[kind]()
        await asyncio.sleep(0)
        return os.getpid()

    @autocron.delay(concurrency=5)
    async def leaves_beside(kind):
        KINDS[kind]()
        await asyncio.sleep(0)
        return os.getpid()

    @autocron.delay
    async def breaks():
        async for number in numbers():
            break
        return os.getpid()

    @autocron.delay
    async def naps():
        await asyncio.sleep(0.1)
        return os.getpid()

    @autocron.delay
    async def fails():
        raise ValueError("it")  # the line of the user
    """


def test_what_a_job_leaves_on_the_loop_ends_with_it_and_is_told(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    script = way(
        """
        pid = leaves("forever").get(20)
        equal(sorted(noted()), ["ended a", "ended b", "left a", "left b"])
        equal(leaves("exits").get(20), pid)
        equal(noted("exits"), ["exits later"])
        equal(leaves("begets").get(20), pid)
        equal(noted("begot"), [f"begot {number}" for number in (3, 2, 1, 0)])
        equal(leaves("thread").get(20), pid)
        equal(noted("thread"), [])
        until(lambda: noted("thread"))
        equal(breaks().get(20), pid)
        equal(noted("closed"), ["closed the generator"])
        for kind in ("stop", "exit in a call"):
            leaves(kind).get(20)
            equal(naps().get(20), pid)  # it hurts no other
        """,
        workers=1,
    )
    assert (
        "more.leaves has left 2 coroutines running (forever, forever): they were cancelled" in script.stderr
    )
    assert (
        script.stderr.count("coroutines running") == 1
    )  # once for each task; a generator's end is asyncio's


def test_one_that_does_not_heed_its_end_is_told_and_the_worker_replaced(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(TASKS)
    script = way(
        """
        pid = leaves("stubborn").get(30)
        assert naps().get(20) != pid
        equal(noted(), ["refused"])
        """,
        workers=1,
    )
    told = "a worker is replaced: a task has left a coroutine that goes on when it is cancelled (stubborn)"
    assert told in script.stderr


def test_what_is_left_beside_others_ends_when_none_runs(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(MEET + "\n" + textwrap.dedent(TASKS))
    script = way(
        """
        first = meet("a")
        begun(1)
        pid = leaves_beside("forever").get(20)
        for kind in ("exits", "stop", "exit in a call"):
            equal(leaves_beside(kind).get(20), pid)
        time.sleep(0.1)
        equal(noted("ended"), [])
        second = meet("b")
        begun(2)
        release("a"), release("b")
        equal([first.get(10), second.get(10), first.attempt], ["a", "b", 1])
        equal(naps().get(20), pid)
        equal(sorted(noted("e")), ["ended a", "ended b", "exits later"])
        """,
        workers=1,
    )
    told = "more.leaves_beside has left 3 coroutines running (exits, forever, forever): they were cancelled"
    assert told in script.stderr


def test_each_has_a_context_of_its_own_whoever_has_read_its_call(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
        + """
of = ContextVar("of", default="nobody")


@autocron.delay(concurrency=3)
async def asks_in_a_thread():
    of.set("the first")
    note("begin asks")
    await asyncio.to_thread(hold("x").get)  # it reads for all


@autocron.delay(concurrency=3)
async def whose():
    return of.get()
"""
    )
    way("""
        first = asks_in_a_thread()
        begun(2)
        equal({whose().get(10) for _ in range(20)}, {"nobody"})
        release("x")
        first.get(10)
        """)


def test_the_traceback_of_a_coroutine_begins_with_the_line_of_the_user(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(TASKS)
    way("""
        lines = raised(autocron.JobFailed, fails().get, 10).splitlines()
        assert "more.py" in lines[1] and "in fails" in lines[1], lines
        """)


def test_what_the_apps_lifespan_has_begun_goes_on(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        """
        from autocron_web.eventloop import event_loop
        from autocron_web.engine import engine

        async def serve():
            while True:
                await asyncio.create_task(asyncio.sleep(0.001))
                note("served")

        if engine.in_worker:
            serving = event_loop().create_task(serve())

        @autocron.delay
        async def nap():
            await asyncio.sleep(0.1)
        """
    )
    way(
        """
        nap().get(10)
        before = len(noted("served"))
        nap().get(10)
        assert len(noted("served")) > before > 0
        """,
        workers=1,
    )


def test_at_once_they_end_with_their_call(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way(
        """
        leaves("forever").get()
        equal(sorted(noted()), ["ended a", "ended b", "left a", "left b"])
        """,
        env={"AUTOCRON_MODE": "inline"},
    )
