"""What is SQLite's alone: forks, the file and its rights, locks, damage, the cost of a claim."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from places import NOW, Child, at_once, job

from autocron_web.errors import SchemaTooNew, StoreBusy, StoreError, StoreGone
from autocron_web.jobs import SECOND
from autocron_web.store import sqlite_file, sqlite_open, sqlite_sql
from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

OWNER = "machine"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's write transaction on the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("COMMIT")


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[Callable[[], object]]:
    """A write transaction of another process on the file, and what ends it."""
    ready, end = os.pipe(), os.pipe()

    def hold() -> None:
        with locked(path):
            os.write(ready[1], b"!")
            os.read(end[0], 1)

    child = Child(hold)
    os.read(ready[0], 1)
    yield lambda: os.write(end[1], b"!")
    child.result()
    for each in (*ready, *end):
        os.close(each)


def own(store: SqliteStore) -> sqlite_file.Own:
    return store._file.own()


def other_has(lock: threading.RLock) -> bool:
    """Whether another thread holds the lock."""
    if free := lock.acquire(blocking=False):
        lock.release()
    return not free


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


# -- forks ------------------------------------------------------------------------------------------


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
        return used, inherited in sqlite_file._INHERITED

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


# -- the file ---------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(SqliteStore(path)) as store:
            store.enqueue([job()])
            store.counts()
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"app.db": 0o600, "app.db-wal": 0o600, "app.db-shm": 0o600}


def test_a_name_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "50% of ?a=1#b ü.db"
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_relative_name_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteStore("app.db")) as store:
        monkeypatch.chdir("/")
        store.enqueue([job()])
        assert store.name == str(tmp_path / "app.db")
    assert (tmp_path / "app.db").exists()


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_commit_is_as_durable_as_was_asked(path: Path, durability: str) -> None:
    with closing(SqliteStore(path, durability=durability)) as store:  # type: ignore[arg-type]
        store.open()
        writer = own(store).writer
        assert writer is not None
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == ({"full": 2, "normal": 1}[durability],)


def test_many_processes_open_a_new_file_at_once(path: Path) -> None:
    def use() -> list[str]:
        store = SqliteStore(path)
        store.open()
        return store.enqueue([job()])

    ids = [answer[0] for answer in at_once([use] * 24)]
    with closing(SqliteStore(path)) as store:
        assert sorted(each.id for each in store.jobs()) == sorted(ids)
    assert is_sound(path)


@pytest.mark.parametrize("use", [SqliteStore.check, SqliteStore.counts, lambda store: store.enqueue([job()])])
def test_a_deleted_file_is_an_error_until_the_store_is_closed(
    store: SqliteStore, path: Path, use: Callable[[SqliteStore], object]
) -> None:
    store.enqueue([job()])
    kept = path.rename(path.with_name("kept.db"))
    with pytest.raises(StoreGone, match=r"app\.db was deleted while it was in use.*restart"):
        use(store)
    kept.rename(path)
    with pytest.raises(StoreGone, match="deleted"):
        store.enqueue([job()])
    store.close()
    assert store.counts() == {"waiting": 1}


def test_a_replaced_file_is_an_error_and_is_left_alone(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    store.enqueue([job()])
    with closing(SqliteStore(tmp_path / "other.db")) as other:
        other.enqueue([job(), job()])
    before = (tmp_path / "other.db").rename(path).read_bytes()
    for _ in range(2):
        with pytest.raises(StoreGone, match="replaced"):
            store.enqueue([job()])
    store.close()
    assert path.read_bytes() == before


# -- what is refused ----------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*/shop\. Make the folder"):
        SqliteStore(tmp_path / "shop" / "app.db").open()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        SqliteStore(tmp_path).open()


def test_a_link_to_nothing_is_refused(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere.db"))
    with pytest.raises(StoreError, match="is a link to a file that does not exist"):
        SqliteStore(path).open()


def test_a_file_of_another_kind_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"My passwords:\n" * 1000)
    with pytest.raises(StoreError, match="not a SQLite database and was left as it is"):
        SqliteStore(path).enqueue([job()])
    assert path.read_bytes() == b"My passwords:\n" * 1000


def test_a_database_of_the_original_autocron_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:  # the tables of autocron 1.2.2, sql_interface.py
        connection.execute(
            "CREATE TABLE task (uuid TEXT, schedule datetime, status INTEGER, crontab TEXT, "
            "function_module TEXT, function_name TEXT, function_arguments BLOB)"
        )
        connection.execute("CREATE TABLE result (uuid TEXT PRIMARY KEY, status INTEGER)")
        connection.execute("CREATE TABLE settings (max_workers INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"autocron 1\.x.*another database name"):
        SqliteStore(path).open()
    assert path.read_bytes() == before


def test_a_database_of_the_application_may_hold_the_store(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE task (uuid TEXT, title TEXT)")
        connection.execute("PRAGMA user_version = 7")
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)


def test_connections_of_the_application_may_come_and_go(path: Path) -> None:
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as early:
        early.execute("PRAGMA journal_mode = WAL")
        early.execute("CREATE TABLE customer (name)").fetchall()
        store.enqueue([job()])
        store.counts()
        writer, reader = own(store).writer, own(store).reader
        with closing(sqlite3.connect(path)) as late:
            late.execute("SELECT * FROM customer").fetchall()
        early.close()
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # with the numbers that are free now
        store.enqueue([job()])
        assert store.counts() == {"waiting": 2}
        assert (own(store).writer, own(store).reader) == (writer, reader)
        for fd in others:
            os.close(fd)


def test_a_newer_schema_is_refused_before_anything_is_written(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE autocron_meta (key TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO autocron_meta VALUES ('schema', '99')")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"schema 99.*up to 1"):
        SqliteStore(path).open()
    assert path.read_bytes() == before


def test_a_user_without_rights_is_told_which(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(SqliteStore(path)) as store:
        store.open()
    folder = tmp_path / "closed"
    folder.mkdir()

    def use() -> list[str]:
        os.chdir(tmp_path)  # root's folder above may be closed to the other user
        path.chmod(0o400)
        folder.chmod(0o500)
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        errors = []
        for name in ("app.db", "closed/app.db"):
            store = SqliteStore(name)
            store.name = store._file.path = name
            with pytest.raises(StoreError) as caught:
                store.open()
            errors.append(str(caught.value))
        return errors

    if os.geteuid() == 0:
        tmp_path.chmod(0o755)
    unreadable, unwritable = Child(use).result()
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    assert f"ser {user} " in unreadable
    assert f"cannot be made by user {user}: Permission denied" in unwritable
    assert list(folder.iterdir()) == []


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_open, "mounted_as", lambda device, mounts: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*local disk"):
        SqliteStore(path).open()
    assert not path.exists()


def test_a_file_system_is_found_by_its_device() -> None:
    mounts = (  # proc(5); the optional fields before the dash may be missing
        "22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "40 22 0:45 /export /srv/with\\040blank rw,relatime - nfs4 server:/export rw,vers=4.2\n"
    )
    assert sqlite_open.mounted_as(os.makedev(0, 45), mounts) == "nfs4"
    assert sqlite_open.mounted_as(os.makedev(252, 0), mounts) == "ext4"
    assert sqlite_open.mounted_as(os.makedev(8, 1), mounts) is None


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"needs 3\.35 or later"):
        SqliteStore(path).open()


# -- locks --------------------------------------------------------------------------------------------


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


# -- damage -------------------------------------------------------------------------------------------


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


# -- changes ------------------------------------------------------------------------------------------


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


# -- schema -------------------------------------------------------------------------------------------


def add_a_step(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    monkeypatch.setattr(sqlite_sql, "STEPS", (*sqlite_sql.STEPS, statements))


def schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT value FROM autocron_meta WHERE key = 'schema'").fetchone()[0])


def test_an_older_schema_is_brought_up_to_date_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
        assert schema(path) == "1"
        add_a_step(
            monkeypatch, "ALTER TABLE autocron_job ADD COLUMN colour TEXT", "CREATE TABLE autocron_new (a)"
        )

        def use() -> dict[str, int]:
            return SqliteStore(path).counts()

        assert at_once([use] * 6) == [{"waiting": 1}] * 6
        assert schema(path) == "2"
        store.enqueue([job()])  # a process of the version before, still running
        assert store.counts() == {"waiting": 2}
    monkeypatch.undo()
    with pytest.raises(SchemaTooNew):
        SqliteStore(path).open()


def test_a_step_that_fails_leaves_the_schema_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(path)) as store:
        store.enqueue([job()])
    add_a_step(monkeypatch, "CREATE TABLE autocron_new (a)", "CREATE TABLE autocron_new (a)")
    with pytest.raises(StoreError, match="autocron_new already exists"):
        SqliteStore(path).open()
    monkeypatch.undo()
    with closing(SqliteStore(path)) as store:
        assert store.counts() == {"waiting": 1}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM sqlite_master WHERE name = 'autocron_new'").fetchall() == []


# -- those who only look --------------------------------------------------------------------------------


def looked_at(path: Path) -> SqliteStore:
    return SqliteStore(path, must_exist=True)


def test_looking_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no database .*app\.db"):
        looked_at(tmp_path / "app.db").counts()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all, but rather long" * 100])
def test_looking_leaves_another_file_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "app.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"app\.db"):
        looked_at(path).counts()
    assert path.read_bytes() == content


def test_looking_makes_no_tables_in_the_database_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (name)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"app\.db is no database of autocron-web"):
        looked_at(path).counts()
    assert path.read_bytes() == before


# -- cost ---------------------------------------------------------------------------------------------


def work(store: SqliteStore, function: Callable[[], object]) -> int:
    """The steps of SQLite's virtual machine (to the nearest ten) that a call takes: a clock without noise."""
    connections = [each for each in (own(store).writer, own(store).reader) if each is not None]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 10

    for connection in connections:
        connection.set_progress_handler(count, 10)
    function()
    for connection in connections:
        connection.set_progress_handler(None, 10)
    return steps


def test_a_claim_costs_the_same_however_many_jobs_wait(store: SqliteStore) -> None:
    epoch = store.take_epoch(OWNER)

    def add(number: int) -> None:
        due = [job(priority=each % 4, due=NOW - each) for each in range(number)]
        future = [job(priority=each % 4 + 2, due=NOW + SECOND + each) for each in range(number)]
        store.enqueue([*due, *future])

    def costs() -> list[int]:
        store.counts()
        return [
            work(store, lambda: store.claim(OWNER, epoch, 5, NOW)),
            work(store, lambda: store.claim(OWNER, epoch, 5, NOW - SECOND)),
            work(store, lambda: store.next_due(NOW)),
            work(store, lambda: store.purge(NOW)),
            work(store, lambda: store.revive(["shop.send_mail"])),
            work(store, lambda: store.unknown_tasks()),
            work(store, lambda: store.crons()),
            work(store, lambda: store.size()),
            work(store, lambda: store.jobs(limit=10)),
            work(store, lambda: store.jobs(state="running", limit=5)),
        ]

    add(50)
    few = costs()
    add(5000)
    many = costs()
    assert len(store.claim(OWNER, epoch, 5, NOW)) == 5
    for before, after in zip(few, many, strict=True):
        assert after <= before * 1.3 + 20, (few, many)
