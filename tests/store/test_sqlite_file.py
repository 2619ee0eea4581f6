"""The file of a SQLite store: its rights and its place, what is refused, who only looks."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from places import Child, at_once, job
from sqlite_place import is_sound, own, path, store  # noqa: F401

from autocron_web.errors import SchemaTooNew, StoreError, StoreGone
from autocron_web.store import sqlite_open
from autocron_web.store.sqlite import SqliteStore

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- the file --------------------------------------------------------------------------------------


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


# -- what is refused -------------------------------------------------------------------------------


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


def test_a_file_that_may_only_be_read_is_as_before_when_it_may_be_written_again(home: Path) -> None:
    """SQLite alone would leave a -shm beside it that nobody may write."""
    path = home / "app.db"
    with closing(SqliteStore(path)) as store:
        store.open()

    def use() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        path.chmod(0o400)
        with closing(SqliteStore(path)) as store:
            with pytest.raises(StoreError, match=r"app\.db may not be read and written by user \d+ "):
                store.open()
            path.chmod(0o600)
            store.set_setting("word", "written")

    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
        os.chown(path, 65534, 65534)
    Child(use).result()
    with closing(SqliteStore(path)) as store:
        assert store.setting("word") == "written"
    assert [file.name for file in home.iterdir()] == ["app.db"]


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


# -- those who only look ---------------------------------------------------------------------------


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
