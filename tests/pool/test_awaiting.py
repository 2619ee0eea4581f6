"""Tasks that await other tasks: however many do, no thread is held meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from autocron_web.jobs import Job
from autocron_web.pool.line import Line
from autocron_web.pool.wire import Decoder, Frame, Kind, encode
from autocron_web.pool.workerclient import WorkerClient
from pool_way import Way, WithTasks, store, way, with_tasks  # noqa: F401

TASKS = """
    @autocron.delay(concurrency=500)
    async def child(number):
        await asyncio.sleep(0.3)
        return await asyncio.to_thread(lambda: number + 1)

    @autocron.delay(concurrency=500)
    async def parent(number):
        return await (await child.aenqueue(number))

    @autocron.delay
    async def alone(number):
        return await (await child.aenqueue(number))

    blocker = threading.Event()

    @autocron.delay
    async def busy_executor(number):
        executors = [asyncio.create_task(asyncio.to_thread(blocker.wait, 30)) for _ in range(64)]
        await asyncio.sleep(0.1)
        try:
            return await (await child.aenqueue(number))
        finally:
            blocker.set()
            await asyncio.wait(executors)

    @autocron.delay
    async def beside_a_thread(number):
        other = hold.enqueue("thread")
        thread = asyncio.create_task(asyncio.to_thread(other.get))
        await asyncio.sleep(0.3)  # the thread reads the line
        value = await (await child.aenqueue(number))
        release("thread")
        return [value, await thread]

    @autocron.delay
    def loop_of_its_own(number):
        async def run():
            return await asyncio.gather(*[child(number + each) for each in range(3)])

        found = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(run())))
        thread.start()
        found.append(asyncio.run(run()))
        thread.join()
        return found

    @autocron.delay
    async def large(size):
        return [len(await (await echo.aenqueue("x" * size))) for _ in range(3)]

    @autocron.delay
    def echo(text):
        return text

    @autocron.delay
    async def asks_and_waits(word):
        result = await hold.aenqueue(word)
        try:
            await result
        finally:
            note("cleaned", word)

    @autocron.delay
    def forked(number):
        async def run():
            return await (await child.aenqueue(number))

        out, into = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(into, str(asyncio.run(run())).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return int(os.read(out, 100))
    """


@pytest.mark.parametrize("number", [20, 200])
def test_many_that_await_and_use_threads_end(way: Way, with_tasks: WithTasks, number: int) -> None:
    with_tasks(TASKS)
    way(f"""
        results = parent.enqueue_many([(number,) for number in range({number})])
        equal([result.get(25) for result in results], [number + 1 for number in range({number})])
        equal({{result.attempt for result in results}}, {{1}})
        """)


def test_each_way_to_await(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way(
        """
        equal(alone(1).get(20), 2)
        equal(busy_executor(2).get(20), 3)
        equal(beside_a_thread(3).get(20), [4, "thread"])
        equal(loop_of_its_own(4).get(20), [[5, 6, 7], [5, 6, 7]])
        equal(large(300_000).get(20), [300_000] * 3)
        equal(forked(5).get(20), 6)
        """,
        workers=3,
    )


def test_one_that_is_cancelled_while_it_awaits_leaves_nothing(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way("""
        first = asks_and_waits("a")
        until(lambda: noted("begin a"))
        assert first.cancel()
        raised(autocron.JobCancelled, first.get, 10)
        equal(noted("cleaned"), ["cleaned a"])
        release("a")
        equal(alone(1).get(20), 2)
        """)


# -- the line itself -----------------------------------------------------------------------------------


class Monitor:
    """The other end of a line, which answers when it is told to."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(10)
        self.line = Line(theirs, is_workers=False)
        self.client = WorkerClient(self.line)
        self._decoder = Decoder()
        self._asked: list[Frame] = []

    def next(self) -> Frame:
        while not self._asked:
            self._asked += self._decoder.feed(self.sock.recv(65536))
        return self._asked.pop(0)

    def answer(self, frame: Frame) -> None:
        self.sock.sendall(encode(Frame(Kind.ANSWER, frame.id, {"n": frame.head["n"]})))

    async def ask(self, number: int) -> int:
        return int((await self.line.ask_soon({"n": number})).head["n"])

    def nobody_waits(self) -> bool:
        return not self.line._asked and not self.line._loops


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    yield monitor
    monitor.sock.close()
    monitor.line.sock.close()


def test_answers_come_in_any_order_and_to_nobody_who_has_gone(monitor: Monitor) -> None:
    async def run() -> list[int]:
        asking = [asyncio.create_task(monitor.ask(number)) for number in range(5)]
        frames = [await asyncio.to_thread(monitor.next) for _ in asking]
        asking[2].cancel()
        with suppress(asyncio.CancelledError):
            await asking[2]
        for frame in reversed(frames):
            monitor.answer(frame)
        return [await task for index, task in enumerate(asking) if index != 2]

    assert asyncio.run(run()) == [0, 1, 3, 4]
    assert monitor.nobody_waits()


def test_threads_and_loops_read_for_each_other(monitor: Monitor) -> None:
    async def several() -> list[int]:
        return [await monitor.ask(number) for number in range(100)]

    found: list[object] = []

    def coroutines() -> None:
        found.append(asyncio.run(several()))

    def plain() -> None:
        found.append([int(monitor.line.ask({"n": number}).head["n"]) for number in range(100)])

    threads = [threading.Thread(target=each) for each in (coroutines, plain, coroutines, plain)]
    for thread in threads:
        thread.start()
    for _ in range(400):
        monitor.answer(monitor.next())
    for thread in threads:
        thread.join(10)
    assert found == [list(range(100))] * 4
    assert monitor.nobody_waits()


def test_the_end_of_the_channel_ends_all_who_wait(monitor: Monitor) -> None:
    async def run() -> list[object]:
        asking = [asyncio.create_task(monitor.ask(number)) for number in range(3)]
        for _ in asking:
            await asyncio.to_thread(monitor.next)
        monitor.sock.close()
        return [type(each).__name__ for each in await asyncio.gather(*asking, return_exceptions=True)]

    assert asyncio.run(run()) == ["StoreError"] * 3
    assert monitor.nobody_waits()


def test_a_monitor_that_reads_nothing_holds_up_no_loop(monitor: Monitor) -> None:
    """It is stopped: what does not fit the socket waits in threads, in whole frames."""
    jobs = [Job(str(number), "t", 0, 0, payload=bytes(200_000)) for number in range(5)]

    async def run() -> None:
        asking = [asyncio.create_task(monitor.client.aenqueue([job])) for job in jobs]
        for _ in range(10):
            await asyncio.sleep(0.01)  # it goes on
        for _ in jobs:
            frame = await asyncio.to_thread(monitor.next)
            assert len(frame.blob) == 200_000
            monitor.sock.sendall(encode(Frame(Kind.ANSWER, frame.id, {"ids": ["x"]})))
        assert await asyncio.gather(*asking) == [["x"]] * 5

    asyncio.run(run())
    assert monitor.nobody_waits()
    assert os.get_blocking(monitor.line.fd)
