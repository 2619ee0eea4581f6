"""The contract of `Store`: batches, and many threads and processes at once."""

from __future__ import annotations

import os
import threading

import pytest
from any_store import OWNER, epoch, other, place, store, stored  # noqa: F401
from places import NOW, Child, job

from autocron_web.errors import StoreError
from autocron_web.store import Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_one_commit(store: Store, other: Store, epoch: int) -> None:
    first, second = job(), job()
    store.enqueue([first])
    with store.batch():
        store.enqueue([second])
        [running, _] = store.claim(OWNER, epoch, 2, NOW)
        store.settle([running._replace(state="done")], epoch)
        assert stored(store, running).state == "done"  # its own thread sees it
        assert store.counts() == {"done": 1, "running": 1}
        assert other.counts() == {"waiting": 1}
    assert other.counts() == {"done": 1, "running": 1}


def test_a_batch_is_rolled_back_on_an_exception(store: Store, epoch: int) -> None:
    first, second = job(), job()
    store.enqueue([first])

    def fail() -> None:
        with store.batch():
            store.enqueue([second])
            store.claim(OWNER, epoch, 9, NOW)
            store.set_setting("workers", "3")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.counts() == {"waiting": 1}
    assert store.get(second.id) is None
    assert store.setting("workers") is None
    assert store.enqueue([second]) == [second.id]


def test_a_batch_in_a_batch_belongs_to_the_outer_one(store: Store) -> None:
    def fail() -> None:
        with store.batch():
            with store.batch():
                store.enqueue([job()])
            assert store.counts() == {"waiting": 1}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.counts() == {}


def test_a_batch_in_which_a_call_failed_stores_nothing(store: Store) -> None:
    def ignore_a_failure() -> None:
        with store.batch():
            store.enqueue([job()])
            with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the driver's business
                store.enqueue([job(payload=object())])

    with pytest.raises(StoreError, match="batch"):
        ignore_a_failure()
    assert store.counts() == {}
    store.enqueue([job()])
    assert store.counts() == {"waiting": 1}


def test_a_batch_is_one_threads_own(store: Store) -> None:
    began, stored_elsewhere = threading.Event(), []

    def enqueue() -> None:
        began.set()
        stored_elsewhere.extend(store.enqueue([job()]))

    thread = threading.Thread(target=enqueue)

    def fail() -> None:
        with store.batch():
            thread.start()
            assert began.wait(5)
            store.enqueue([job()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    thread.join(10)
    assert [each.id for each in store.jobs()] == stored_elsewhere
    assert len(stored_elsewhere) == 1


# -- many at once ----------------------------------------------------------------------------------


def test_what_many_threads_enqueue_is_all_there(store: Store) -> None:
    answers: list[str] = []

    def enqueue() -> None:
        for _ in range(20):
            answers.extend(store.enqueue([job(), job()]))

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8 * 20 * 2
    assert sorted(each.id for each in store.jobs(limit=1000)) == sorted(answers)


def test_a_forked_child_and_its_parent_both_use_the_store(store: Store) -> None:
    def enqueue() -> list[str]:
        return [store.enqueue([job()])[0] for _ in range(10)]

    ids = enqueue()
    children = [Child(enqueue) for _ in range(3)]
    ids += enqueue()
    for child in children:
        ids += child.result()
    ids += enqueue()
    assert sorted(each.id for each in store.jobs()) == sorted(ids)
    assert len(set(ids)) == 60


def test_a_process_that_is_killed_in_a_batch_leaves_nothing(store: Store, epoch: int) -> None:
    store.enqueue([job()])

    def die() -> None:
        with store.batch():
            store.enqueue([job()])
            store.claim(OWNER, epoch, 9, NOW)
            os.kill(os.getpid(), 9)

    with pytest.raises(pytest.fail.Exception, match="killed"):
        Child(die).result()
    assert store.counts() == {"waiting": 1}
    assert len(store.claim(OWNER, epoch, 9, NOW)) == 1
