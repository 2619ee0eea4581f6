"""The monitor's thread for the store: what one asks for is nobody else's trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autocron_web.jobs import Job, new_id
from autocron_web.pool.failures import Failures
from autocron_web.pool.loop import Loop
from autocron_web.pool.storethread import StoreThread
from autocron_web.store import Store
from autocron_web.store.sqlite import SqliteStore


class Place:
    """A store thread beside a loop, and what came of it."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.store.open()
        self.loop = Loop()
        self.failures: list[Exception] = []
        self.loop.on_failure = self.failures.append
        self.thread = StoreThread(
            self.store,
            self.loop,
            is_mine=lambda: True,
            on_usurped=lambda: None,
            on_change=lambda: None,
            on_trouble=lambda text, fatal: None,
        )
        self._first = threading.Event()

    def run(self) -> None:
        """Do all that was asked for, in one batch, and wait for its replies."""
        self.thread.start()
        self.thread.ask(lambda store: None, lambda _: self.loop.call_soon(self.loop.stop))
        self.loop.run()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "shop.db")
    yield place
    place.thread.close(5)


def job(**fields: Any) -> Job:
    return Job(**{"id": new_id(), "task": "shop.task", "due": 0, "created": 0, **fields})


def store_job(one: Job) -> Callable[[Store], list[str]]:
    return lambda store: store.enqueue([one])


def test_an_operation_that_fails_fails_alone(place: Place) -> None:
    told: list[Any] = []
    good = [job() for _ in range(4)]
    place.thread.ask(store_job(good[0]), told.append)
    place.thread.ask(
        store_job(job(task="\ud800")), told.append, failed=lambda error: told.append(type(error))
    )
    place.thread.ask(store_job(good[1]), told.append)
    place.thread.ask(store_job(job(due=10**30)), told.append, failed=lambda error: told.append(type(error)))
    place.thread.ask(store_job(good[2]), told.append)
    place.thread.ask(store_job(job(priority={})))  # nobody wants to know of it: it is logged
    place.thread.ask(store_job(good[3]), told.append)
    place.run()
    assert told == [
        [good[0].id], UnicodeEncodeError, [good[1].id], OverflowError, [good[2].id], [good[3].id]
    ]  # fmt: skip
    assert [found.id for found in place.store.jobs()][::-1] == [one.id for one in good]
    assert len(place.failures) == 1


def test_a_reply_that_fails_fails_alone(place: Place) -> None:
    told: list[Any] = []

    def fail(answer: object) -> None:
        raise ValueError("the answer was not understood")

    place.thread.ask(lambda store: 1, fail)
    place.thread.ask(lambda store: 2, told.append)
    place.thread.ask(lambda store: 3, fail, failed=lambda error: told.append(str(error)))
    place.thread.ask(lambda store: 4, fail, failed=fail)
    place.thread.ask(lambda store: 5, told.append)
    place.run()
    assert told == [2, "the answer was not understood", 5]
    assert len(place.failures) == 2


def test_what_only_reads_does_so_outside_of_the_transaction(place: Place) -> None:
    inside: list[bool] = []

    def look(store: Store) -> None:
        inside.append(place.store._file.own().is_in_batch())

    def read_wrongly(store: Store) -> None:
        store.jobs(limit=10**30)

    told: list[Any] = []
    place.thread.ask(look)
    place.thread.ask(look, writes=False)
    place.thread.ask(read_wrongly, failed=told.append, writes=False)
    place.run()
    assert inside == [True, False]
    assert [type(error) for error in told] == [OverflowError]


def test_the_same_failure_is_not_told_without_end() -> None:
    said: list[str] = []

    class Saying:
        def say(self, text: str) -> None:
            said.append(text)

    failures = Failures(Saying())  # type: ignore[arg-type]  # it is a Printer in so far
    for number in range(1000):
        try:
            raise KeyError(number)
        except KeyError as error:
            failures.note(error)
    assert len(said) == 4
    assert said[0].startswith("something has failed inside the pool, which goes on\nTraceback")
    assert said[-1] == "the same has failed 1000 times: KeyError: 999"
    failures.note(ValueError("something else"))
    assert len(said) == 5
