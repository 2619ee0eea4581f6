"""Calls inside calls of the same thread, as a signal handler or a `__del__` makes them."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from interrupted import each_step
from places import NOW, Child, job
from sqlite_place import is_sound, locked_elsewhere, path, store  # noqa: F401

from autocron_web.store.sqlite import SqliteStore

pytestmark = [
    pytest.mark.once,  # nothing here depends on the version of Python
    pytest.mark.usefixtures("interrupted_steps"),
]


def committed(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as other:
        return {row[0] for row in other.execute("SELECT id FROM autocron_job")}


def enqueue(store: SqliteStore, number: int) -> None:
    store.enqueue([job(id=f"outer {number}"), job()])


def set_and_cancel(store: SqliteStore, number: int) -> None:
    store.set_setting("number", str(number))
    assert store.setting("number") == str(number)
    assert not store.cancel("no job", NOW, "by a test")


def read(store: SqliteStore, number: int) -> None:
    assert store.counts()
    assert store.get("no job") is None


@pytest.mark.parametrize("call", [enqueue, set_and_cancel, read])
def test_a_call_inside_a_call_is_on_disk_when_it_returns(
    store: SqliteStore, path: Path, call: Callable[[SqliteStore, int], None]
) -> None:
    inner: list[str] = []

    def call_inside() -> None:
        inner.extend(store.enqueue([job()]))
        assert inner[-1] in committed(path)
        assert store.get(inner[-1]) is not None

    store.enqueue([job()])
    numbers = []

    def outer(number: int) -> None:
        numbers.append(number)
        call(store, number)

    for where in each_step(outer, call_inside, stride=7):
        assert len(inner) == len(numbers), where
    assert len(inner) > 20
    assert set(inner) <= committed(path)
    if call is enqueue:
        assert {f"outer {number}" for number in numbers} <= committed(path)
        assert store.counts() == {"waiting": 1 + len(inner) + 2 * len(numbers)}
    assert is_sound(path)


def test_a_signal_handler_calls_while_another_process_has_the_lock(store: SqliteStore, path: Path) -> None:
    ids: list[str] = []

    def use() -> list[str]:
        signal.signal(signal.SIGALRM, lambda *_: ids.extend(store.enqueue([job()])))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return store.enqueue([job()]) + ids

    with locked_elsewhere(path) as unlock:
        child = Child(use)
        time.sleep(0.4)  # nothing can be seen of a call in a call: it has just begun to wait
        unlock()
        answered = child.result()
    assert len(answered) == 2
    assert set(answered) == committed(path)


def test_signal_handlers_call_tasks_beside_threads_that_do(store: SqliteStore, path: Path) -> None:
    def use() -> list[str]:
        ids: list[str] = []
        inside: list[str] = []
        signal.signal(signal.SIGALRM, lambda *_: inside.extend(store.enqueue([job()])))

        def call() -> None:
            for _ in range(100):
                if threading.current_thread() is threading.main_thread():
                    signal.setitimer(signal.ITIMER_REAL, 0.0005)  # for once: a handler is to end some time
                ids.extend(store.enqueue([job()]))

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for thread in threads:
            thread.join(20)
        assert len(ids) == 400
        assert len(inside) > 10
        return ids + inside

    assert sorted(Child(use).result(40)) == sorted(committed(path))


def test_a_finalizer_calls_in_the_middle_of_a_call(store: SqliteStore, path: Path) -> None:
    """The look for garbage runs at any time, and with it the finalizers of what it finds."""

    class Cyclic:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            store.enqueue([job()])

    import gc

    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(5)
    try:
        for _ in range(100):
            Cyclic()
            store.enqueue([job()])
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(committed(path)) == 200


def test_a_signal_handler_forks_in_the_middle_of_a_call(store: SqliteStore, path: Path) -> None:
    def in_the_child() -> None:
        store.enqueue([job()])

    numbers = []

    def outer(number: int) -> None:
        numbers.append(number)
        store.enqueue([job()])

    for _ in each_step(outer, lambda: Child(in_the_child).result(), stride=97):
        pass
    assert len(numbers) > 5
    assert store.counts() == {"waiting": 2 * len(numbers) - 1}
    assert os.path.exists(path)
    assert is_sound(path)
