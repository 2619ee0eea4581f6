"""SQLite under locks, on full and damaged disks, and what others commit."""

from __future__ import annotations

import resource
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from places import Child, job
from sqlite_place import is_sound, locked, other_has, own, path, store  # noqa: F401

from autocron_web.errors import StoreBusy, StoreError
from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- locks -----------------------------------------------------------------------------------------


def test_a_lock_that_stays_is_an_error_and_nothing_is_stored_twice(store: SqliteStore, path: Path) -> None:
    waiting = SqliteStore(path, busy_timeout=0.3)
    wanted = job()
    with locked(path):
        began = time.monotonic()
        with pytest.raises(StoreBusy, match=r"app\.db was locked by somebody else for 0\.3 seconds"):
            waiting.enqueue([wanted])
        assert 0.3 <= time.monotonic() - began < 3
        assert waiting.counts() == {}  # reading waits for nobody
    waiting.enqueue([job()])
    assert store.get(wanted.id) is None  # what has failed is not stored later
    assert waiting.enqueue([wanted]) == [wanted.id]
    assert store.counts() == {"waiting": 2}
    waiting.close()


def test_every_thread_that_waits_for_a_lock_waits_for_its_own_time(store: SqliteStore, path: Path) -> None:
    waiting = SqliteStore(path, busy_timeout=0.3)
    waits: list[float] = []

    def enqueue() -> None:
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            waiting.enqueue([job()])
        waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    with locked(path):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(waits) == 4
    assert min(waits) >= 0.3
    assert max(waits) < 3 * 0.3 + 0.5  # not one after the other
    assert store.counts() == {}
    waiting.close()


def test_a_lock_that_changes_hands_never_makes_a_call_fail(store: SqliteStore, path: Path) -> None:
    waiting = SqliteStore(path, busy_timeout=0.2)
    waiting.open()
    answers: list[object] = []

    def enqueue() -> None:
        try:
            answers.append(waiting.enqueue([job()]))
        except StoreError as error:
            answers.append(error)

    thread = threading.Thread(target=enqueue)
    with locked(path) as connection:
        thread.start()
        for number in range(12):  # half a second and more without a moment to get in
            time.sleep(0.05)
            connection.execute("INSERT INTO autocron_setting VALUES (?, '')", (str(number),))
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
    thread.join(10)
    assert [type(answer) for answer in answers] == [list]
    waiting.close()


def test_calls_that_wait_together_share_a_commit(store: SqliteStore, path: Path) -> None:
    writer, commits = own(store).writer, []
    assert writer is not None
    threads = [threading.Thread(target=lambda: store.enqueue([job()])) for _ in range(8)]
    with locked(path):
        for thread in threads:
            thread.start()
        wait_until(lambda: len(own(store).pending) == 8, 10, "all calls are pending")
        writer.set_trace_callback(lambda statement: statement == "COMMIT" and commits.append(statement))
    for thread in threads:
        thread.join(10)
    assert commits == ["COMMIT"]
    assert store.counts() == {"waiting": 8}
    writer.set_trace_callback(None)


def test_a_call_that_fails_does_not_fail_those_that_wait_with_it(store: SqliteStore, path: Path) -> None:
    answers: list[object] = []

    def enqueue(payload: object) -> None:
        try:
            answers.append(store.enqueue([job(payload=payload)]))
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=enqueue, args=(each,)) for each in (b"", object(), b"", b"")]
    with locked(path):
        for thread in threads:
            thread.start()
        wait_until(lambda: len(own(store).pending) == 4, 10, "all calls are pending")
    for thread in threads:
        thread.join(10)
    assert [type(answer) for answer in answers].count(list) == 3
    assert store.counts() == {"waiting": 3}


def test_a_write_that_waits_does_not_keep_readers_waiting(store: SqliteStore, path: Path) -> None:
    thread = threading.Thread(target=lambda: store.set_setting("a", "b"))
    with locked(path):
        thread.start()
        wait_until(lambda: other_has(own(store).write_lock), 10, "the write has begun")
        assert store.counts() == {}
        assert store.setting("a") is None
    thread.join(10)
    assert store.setting("a") == "b"


# -- damage ----------------------------------------------------------------------------------------


def test_a_full_disk_is_an_error_that_passes(store: SqliteStore) -> None:
    writer = own(store).writer
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 10}")
    too_much = [job(payload=bytes(100_000))]
    with pytest.raises(StoreError, match=r"app\.db cannot be used.*SQLITE_FULL.*Make room"):
        store.enqueue(too_much)
    store.enqueue([job()])
    assert store.counts() == {"waiting": 1}

    def ignore_the_error() -> None:
        with store.batch():
            store.enqueue([job()])
            with pytest.raises(StoreError, match="SQLITE_FULL"):
                store.enqueue(too_much)
            store.set_setting("after", "the error")

    with pytest.raises(StoreError, match="an earlier call in it failed"):
        ignore_the_error()
    assert store.counts() == {"waiting": 1}
    assert store.settings() == {}


def test_a_write_that_the_disk_refuses_is_an_error_that_passes(store: SqliteStore, path: Path) -> None:
    def write_with_a_limit() -> tuple[str, list[str]]:
        store.enqueue([job()])
        before = own(store).writer
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("app.db-wal").stat().st_size + 5000, -1))
        with pytest.raises(StoreError) as caught:
            store.enqueue([job(payload=bytes(1_000_000))])
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        answer = store.enqueue([job()])
        assert own(store).writer is not before
        return str(caught.value), answer

    error, [written] = Child(write_with_a_limit).result()
    assert "SQLITE_IOERR" in error
    assert "Look into the system's log" in error
    assert store.get(written) is not None
    assert store.counts() == {"waiting": 2}
    assert is_sound(path)


def test_a_damaged_file_is_an_error_and_is_left_as_it_is(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.enqueue([job(payload=bytes(3000)) for _ in range(50)])
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with (
        closing(SqliteStore(path)) as store,
        pytest.raises(StoreError, match="The file is damaged and was left"),
    ):
        store.jobs()
    assert path.stat().st_size == len(content)


# -- changes ---------------------------------------------------------------------------------------


def test_changed_tells_of_commits_by_others_alone(store: SqliteStore, path: Path) -> None:
    assert store.changed()  # not known yet
    assert not store.changed()
    store.enqueue([job()])
    assert not store.changed()
    with closing(SqliteStore(path)) as other:
        other.enqueue([job()])
        other.enqueue([job()])
    assert store.changed()
    assert not store.changed()
