"""SQLite across forks: nothing is inherited, nothing is lost."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest
from places import Child, job
from sqlite_place import is_sound, locked_elsewhere, other_has, own, path, store  # noqa: F401

from autocron_web.errors import StoreError, StoreGone
from autocron_web.store import sqlite_own
from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


def test_nothing_is_lost_when_parent_and_children_write(store: SqliteStore, path: Path) -> None:
    def enqueue() -> list[str]:
        return [store.enqueue([job()])[0] for _ in range(20)]

    ids = enqueue()
    children = [Child(enqueue) for _ in range(4)]
    ids += enqueue()
    for child in children:
        ids += child.result()
    assert sorted(each.id for each in store.jobs(limit=1000)) == sorted(ids)
    assert is_sound(path)


def test_a_child_never_touches_what_it_inherited(store: SqliteStore) -> None:
    store.enqueue([job()])
    store.counts()
    inherited = own(store)
    assert inherited.writer is not None
    assert inherited.reader is not None
    used: list[str] = []
    for connection in (inherited.writer, inherited.reader):
        connection.set_trace_callback(used.append)

    def use() -> tuple[list[str], bool]:
        store.enqueue([job()])
        store.counts()
        store.close()
        return used, inherited in sqlite_own.INHERITED

    assert Child(use, hooks=False).result() == ([], True)
    for connection in (inherited.writer, inherited.reader):
        connection.set_trace_callback(None)
    assert store.counts() == {"waiting": 2}


def test_a_child_goes_on_when_its_parent_closes_the_file(store: SqliteStore, path: Path) -> None:
    # SQLite itself loses the child's second job: the parent is the last one that has locks, so it
    # deletes the WAL when it closes the file, and the child writes to what is deleted.
    store.enqueue([job()])
    ready, go_on = os.pipe(), os.pipe()

    def enqueue() -> None:
        store.enqueue([job()])
        os.write(ready[1], b"!")
        os.read(go_on[0], 1)
        store.enqueue([job()])

    child = Child(enqueue)
    os.read(ready[0], 1)
    store.close()

    def enqueue_elsewhere() -> None:
        with closing(SqliteStore(path)) as other:
            other.enqueue([job()])

    Child(enqueue_elsewhere).result()
    os.write(go_on[1], b"!")
    child.result()
    for end in (*ready, *go_on):
        os.close(end)
    assert store.counts() == {"waiting": 4}
    assert is_sound(path)


def test_a_fork_waits_for_the_thread_that_writes(store: SqliteStore, path: Path) -> None:
    ids = [job().id, job().id, job().id]
    thread = threading.Thread(target=store.enqueue, args=([job(id=ids[0])],))
    with locked_elsewhere(path) as unlock:
        thread.start()
        wait_until(lambda: other_has(own(store).write_lock), 10, "the write has begun")
        timer = threading.Timer(0.1, unlock)  # by then the fork is waiting
        timer.start()
        child = Child(lambda: store.enqueue([job(id=ids[1])]))
        timer.join(10)
    assert store.enqueue([job(id=ids[2])]) == [ids[2]]
    assert child.result() == [ids[1]]
    thread.join(10)
    assert {each.id for each in store.jobs()} == set(ids)


def test_threads_that_write_while_others_fork_lose_nothing(store: SqliteStore, path: Path) -> None:
    ids: list[str] = []

    def enqueue() -> list[str]:
        return store.enqueue([job()])

    def enqueue_many() -> None:
        for _ in range(30):
            ids.extend(enqueue())
            store.counts()

    threads = [threading.Thread(target=enqueue_many) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(12):
        ids.extend(Child(enqueue).result())
    for thread in threads:
        thread.join(20)
    assert sorted(each.id for each in store.jobs(limit=1000)) == sorted(ids)
    assert len(ids) == 2 * 30 + 12
    assert is_sound(path)


def test_a_child_that_is_forked_in_a_batch_cannot_commit_it(store: SqliteStore) -> None:
    def leave_the_batch() -> None:
        with store.batch():
            store.enqueue([job()])
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                store.enqueue([job()])
        if not pid:
            os._exit(9)

    def fork_in_a_batch() -> None:
        try:
            leave_the_batch()
        except StoreError:
            os._exit(0)

    Child(fork_in_a_batch).result()
    assert store.counts() == {"waiting": 2}


def test_a_child_refuses_a_file_that_was_replaced_before_its_first_call(
    store: SqliteStore, path: Path
) -> None:
    store.enqueue([job()])
    path.rename(path.with_name("old.db"))

    def use() -> str:
        with pytest.raises(StoreGone) as caught:
            store.enqueue([job()])
        return str(caught.value)

    assert "deleted" in Child(use).result()
    assert not path.exists()
