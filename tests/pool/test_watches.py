"""Who waits for a job, at both ends of a link: nobody is remembered for longer than it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from autocron_web.jobs import Job
from autocron_web.link import Link
from autocron_web.linkstate import MAX_OVER
from autocron_web.pool.links import Links
from autocron_web.pool.loop import Loop
from autocron_web.pool.output import Printer
from conftest import wait_until


class Monitor:
    """The links of a monitor, on a loop in a thread."""

    def __init__(self, database: Path) -> None:
        database.touch()
        self.loop = Loop()
        self.links = Links(self.loop, f"{database}.sock", Printer())
        self.links.listen()
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    @property
    def watched(self) -> int:
        return len(self.links._watchers)

    def poke(self, job: Job) -> None:
        self.loop.call_soon(lambda: self.links.poke([job]))

    def close(self) -> None:
        self.loop.call_soon(lambda: self.links.close(None))
        self.loop.call_soon(self.loop.stop)
        self._thread.join(10)


@pytest.fixture
def monitor(home: Path) -> Iterator[Monitor]:
    monitor = Monitor(home / "shop.db")
    yield monitor
    monitor.close()


@pytest.fixture
def link(monitor: Monitor, home: Path) -> Iterator[Link]:
    link = Link(str(home / "shop.db"), dict, serving=False, durability="full")
    yield link
    link.leave()


@contextmanager
def watching(link: Link, job_id: str) -> Iterator[threading.Event]:
    """Wait for a job: the event is set whenever it may have changed."""
    news = threading.Event()
    link.watch(job_id, news.set)
    try:
        yield news
    finally:
        link.unwatch(job_id, news.set)


def wait_for(job_id: str, link: Link, then: Callable[[], object] = lambda: None) -> None:
    with watching(link, job_id) as news:
        assert news.wait(20), "the monitor says to look once more"
        news.clear()
        then()


def test_jobs_that_nobody_waits_for_any_more_are_forgotten(monitor: Monitor, link: Link) -> None:
    for number in range(3 * MAX_OVER):
        wait_for(f"job {number}", link)
        assert monitor.watched <= 2
    assert len(link._own().over) <= 1


def test_waits_that_end_together_are_forgotten_too(monitor: Monitor, link: Link) -> None:
    number = 3 * MAX_OVER + 5
    with ExitStack() as waits:
        for index in range(number):
            waits.enter_context(watching(link, f"job {index}"))
        wait_until(lambda: monitor.watched == number, 20, "all to be watched")
    wait_until(lambda: monitor.watched < MAX_OVER, 20, f"them to be forgotten, and not {monitor.watched}")


def test_one_of_several_who_wait_for_a_job_goes_on_waiting(monitor: Monitor, link: Link) -> None:
    with watching(link, "job") as news:
        assert news.wait(20)
        for number in range(MAX_OVER + 1):
            wait_for("job", link)
            wait_for(f"another {number}", link)
        news.clear()
        monitor.poke(Job("job", "shop.a", 0, 0, state="running"))
        assert news.wait(20)


def test_a_job_that_has_finished_is_forgotten(monitor: Monitor, link: Link) -> None:
    with watching(link, "job") as news:
        assert news.wait(20)
        for state, left in (("running", 1), ("waiting", 1), ("done", 0)):
            news.clear()
            monitor.poke(Job("job", "shop.a", 0, 0, state=state))  # type: ignore[arg-type]  # one of these
            assert news.wait(20)
            wait_until(lambda left=left: monitor.watched == left, 20, f"{left} to be watched")  # type: ignore[misc]
