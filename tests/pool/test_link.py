"""The link of an app process to a monitor that a test plays: what a call does after its commit."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from link_monitor import JOB, Begun, Monitor, a_link, begun, monitor, path  # noqa: F401 - fixtures, too

from autocron_web import link, listener
from autocron_web.client import StoreClient
from autocron_web.jobs import Job, succeeded
from autocron_web.link import Link
from autocron_web.memory import MemoryJobs
from autocron_web.pool.wire import Frame, Kind
from conftest import wait_until


def link_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "autocron-link"]


def test_a_call_says_its_wake_at_once_and_the_thread_says_hello(monitor: Monitor, a_link: Link) -> None:
    """As in a fork, whose first call finds no link."""
    a_link.wake(0)
    wait_until(lambda: monitor.heard(Kind.HELLO), 10, "the hello")
    wait_until(lambda: monitor.heard(Kind.WAKE), 10, "the wake")
    wait_until(lambda: a_link._state.connection and a_link._state.connection.greeted, 10, "the welcome")
    a_link.cancel("x")
    wait_until(lambda: monitor.heard(Kind.CANCEL) == [{"id": "x"}], 10, "the cancel")
    assert len(monitor.heard(Kind.HELLO)) == 1
    assert len(link_threads()) == 1


def test_a_call_does_not_wait_for_a_monitor_that_reads_nothing(path: str) -> None:
    """It is stopped: its socket takes connections, and what it was told stays unread."""
    a_link = Link(path, dict, serving=True, durability="full")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".sock")
        listener.listen(128)
        a_link.join()
        connection = a_link._state.connection
        assert connection is not None
        while a_link._say(a_link._state, Frame(Kind.WAKE)):
            pass
        assert a_link._state.connection is connection  # what did not fit is no reason for another one
        a_link.wake(0)
        assert a_link._state.connection is connection
    a_link.leave()


def test_while_no_monitor_can_be_started_calls_leave_that_to_the_thread(
    a_link: Link, begun: Begun, caplog: pytest.LogCaptureFixture
) -> None:
    assert a_link.join() is False
    assert begun == [threading.get_ident()]
    for _ in range(300):
        a_link.wake(0)
        assert a_link.cancel("x") is False
    assert begun.count(threading.get_ident()) == 1
    assert len(begun) < 10  # its pauses
    (record,) = caplog.records
    assert record.getMessage() == (
        "the pool cannot be reached or started: Too many open files."
        " Jobs are stored, and wait for it; it is tried again and again"
    )


def test_the_thread_goes_on_when_the_cause_is_over(
    a_link: Link, begun: Begun, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAUSES", (0.0, 0.01, 0.02, 0.1))
    a_link.join()
    wait_until(lambda: len(begun) > 2, 20, "tries of the thread")
    monitor = Monitor(path)
    wait_until(lambda: monitor.heard(Kind.HELLO), 40, "the hello, without another call")
    monitor.end(path)


def test_calls_do_not_hurry_to_the_next_of_monitors_that_die_young(
    a_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Monitor] = []

    def start_monitor(path: str, options: dict[str, Any], deadline: float) -> bool:
        begun.append(Monitor(path))
        return True

    monkeypatch.setattr(link, "start_monitor", start_monitor)
    assert a_link.join() is True
    ended = 0
    for _ in range(200):
        a_link.wake(0)
        time.sleep(0.005)
        connection = a_link._state.connection
        if connection is not None and connection.greeted and ended < len(begun):
            begun[ended].end(a_link._path)
            ended += 1
    assert 2 <= len(begun) < 8  # after 0, 0.2, 1 … seconds


def test_without_a_thread_calls_link_by_themselves_with_pauses(
    a_link: Link, begun: Begun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    a_link.join()
    for _ in range(100):
        a_link.wake(0)
        a_link.watch("x", lambda: None)
        a_link.unwatch("x", print)
    assert begun == [threading.get_ident()]
    a_link._state.no_join_before = 0.0  # five seconds later
    a_link.wake(0)
    assert begun == [threading.get_ident()] * 2
    told = [record.getMessage().partition(". ")[0] for record in caplog.records]
    assert told == [
        "the pool cannot be reached or started: Too many open files",
        "the pool cannot be reached or started: RuntimeError: can't start new thread",
    ]


@pytest.mark.parametrize("error", [MemoryError(), FileNotFoundError(2, "No such file"), ValueError("odd")])
def test_a_hello_that_cannot_be_made_is_one_sentence_and_starts_no_pool(
    path: str, begun: Begun, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def hello() -> dict[str, Any]:
        raise error

    a_link = Link(path, hello, serving=True, durability="full")
    assert a_link.join() is False
    for _ in range(10):
        a_link.wake(0)
    assert begun == []
    assert len(caplog.records) == 1
    a_link.leave()


def test_who_waits_is_told_by_the_next_monitor_too(a_link: Link, path: str, monitor: Monitor) -> None:
    told = threading.Event()
    a_link.join()
    a_link.watch("x", told.set)
    wait_until(lambda: monitor.heard(Kind.WATCH) == [{"id": "x"}], 10, "the watch")
    monitor.end(path)
    assert told.wait(10)  # it looks by itself
    later = Monitor(path)
    wait_until(lambda: later.heard(Kind.WATCH) == [{"id": "x"}], 20, "the watch at the next one")
    a_link.unwatch("x", told.set)
    assert a_link._state.watchers == {}
    later.end(path)


def test_what_is_registered_while_hello_is_said_is_told_after_it(path: str, monitor: Monitor) -> None:
    def hello() -> dict[str, Any]:
        a_link.modules(["late"])
        return {}

    a_link = Link(path, hello, serving=True, durability="full")
    a_link.join()
    wait_until(lambda: monitor.heard(Kind.MODULES) == [{"modules": ["late"]}], 10, "the module")
    a_link.leave()


def test_leaving_and_starting_again_at_once_counts_again(a_link: Link, monitor: Monitor) -> None:
    for number in range(1, 20):
        a_link.join()
        a_link.leave()
        a_link.join()
        wait_until(lambda: len(monitor.heard(Kind.HELLO)) == 2 * number, 10, "the hellos")  # noqa: B023 - used at once
        wait_until(lambda: len(monitor.heard(Kind.LEAVE)) == 2 * number - 1, 10, "the leave")  # noqa: B023 - as above
        assert len([thread for thread in link_threads() if thread.is_alive()]) <= 2  # one may be ending
        a_link.leave()


# -- event loops -------------------------------------------------------------------------------------


def test_await_never_links_in_the_thread_of_the_loop(a_link: Link, begun: Begun) -> None:
    store = MemoryJobs()
    store.enqueue([JOB])
    client = StoreClient(store, a_link)  # type: ignore[arg-type] # all that it asks is there

    async def wait() -> list[Job]:
        asyncio.get_running_loop().call_later(0.2, store.put, succeeded(JOB, 1, b"1", "json", None, None))
        return await asyncio.gather(*(client.await_(JOB) for _ in range(10)))

    assert {job.state for job in asyncio.run(wait())} == {"done"}
    assert begun
    assert threading.get_ident() not in begun
    assert a_link._state.watchers == {}


def test_an_await_that_is_cancelled_leaves_no_watch(a_link: Link, monitor: Monitor) -> None:
    store = MemoryJobs()
    store.enqueue([JOB])
    client = StoreClient(store, a_link)  # type: ignore[arg-type] # all that it asks is there

    async def wait() -> None:
        waits = [asyncio.ensure_future(client.await_(JOB)) for _ in range(10)]
        await asyncio.sleep(0.05)
        for number, task in enumerate(waits):
            task.cancel()
            if number % 2:
                await asyncio.sleep(0)
        await asyncio.wait(waits)

    asyncio.run(wait())
    assert a_link._state.watchers == {}
