"""Database files that are no good, or are deleted or replaced under a real pool. By fault number."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from test_faults_access import USER, as_user, users_app  # noqa: F401
from test_faults_disk import TRY_ON

from autocron_web.jobs import Job, new_id
from autocron_web.store.sqlite import SqliteStore
from conftest import need, pool_processes, wait_until
from pool_app import App, app, look, wait_for_pool  # noqa: F401

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]  # seconds, of which a busy machine may need many


# -- at the start ---------------------------------------------------------------------------------


def garbage(database: Path) -> None:
    database.write_bytes(b"My passwords:\n" * 1000)


def damage(database: Path, table: str = "") -> None:
    """The schema can be read, and nothing else; or only the first page of a table cannot."""
    with closing(SqliteStore(database)) as store:
        store.enqueue([Job(new_id(), "task", 0, 0, payload=bytes(3000)) for _ in range(50)])
    with closing(sqlite3.connect(database)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))
    content = bytearray(database.read_bytes())
    first, last = (roots[table] - 1, roots[table]) if table else (1, len(content) // 4096)
    content[first * 4096 : last * 4096] = b"\xff" * ((last - first) * 4096)
    database.write_bytes(content)


def newer_schema(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE autocron_meta (key TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO autocron_meta VALUES ('schema', '99')")
        connection.commit()


@pytest.mark.parametrize(
    ("harm", "error", "sentence"),
    [
        pytest.param(garbage, "StoreError", "Give another database name", id="65-no-database"),
        pytest.param(damage, "StoreError", "Restore a backup", id="65-damaged"),
        pytest.param(newer_schema, "SchemaTooNew", "99", id="68-newer-schema"),
        pytest.param(Path.mkdir, "StoreError", "is a folder", id="folder"),
    ],
)
def test_a_site_goes_on_without_a_usable_file(
    app: App, home: Path, harm: Callable[[Path], object], error: str, sentence: str
) -> None:
    database = home / "faults.db"
    harm(database)
    before = database.read_bytes() if database.is_file() else None
    script = app.run("try_to:a", "try_to:b")
    assert "started False" in script.stdout
    assert [line[1] for line in app.lines("tried")] == [error, error]
    assert f"{database}" in script.stderr
    assert sentence in script.stderr
    assert 0 < len(script.stderr.splitlines()) < 5, script.stderr
    assert "Traceback" not in script.stderr
    wait_until(lambda: not pool_processes(), 10, "no process is left")
    assert script.process.poll() is None
    assert before is None or database.read_bytes() == before


def test_65_damage_that_only_calls_and_claims_meet(app: App, home: Path) -> None:
    app.add(TRY_ON)
    damage(home / "faults.db", "autocron_job")
    script = app.start("try_on:visits")
    wait_until(lambda: "Restore a backup" in script.stderr, 10, "the sentence")
    app.wait_for("tried StoreError", count=20)
    assert len(script.stderr.splitlines()) < 5, script.stderr
    assert "Traceback" not in script.stderr
    assert "store_corrupt" in {reason["code"] for reason in look(app)["reasons"]}
    (monitor,), _ = wait_for_pool()
    script.kill()
    os.kill(monitor, signal.SIGKILL)  # it would try to write until the end of its drain


@contextmanager
def read_only_disk(home: Path) -> Iterator[list[str]]:
    """A disk that was mounted for reading only."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        yield []
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@contextmanager
def read_only_file(home: Path) -> Iterator[list[str]]:
    """The same, where nothing can be mounted: the kernel is made to say so.

    With -D the app is our child, and not strace, whose death it would survive.
    """
    paths = [word for suffix in ("", "-wal", "-shm") for word in ("-P", f"{home}/faults.db{suffix}")]
    fail = ["-e", "trace=openat", "-e", "inject=openat:error=EROFS"]
    yield [need("strace"), "-D", "-f", "-qq", *fail, *paths, "-o", "/dev/null", sys.executable]


@pytest.mark.parametrize("fault", [read_only_disk, read_only_file])
def test_61_a_site_goes_on_where_nothing_can_be_written(
    app: App, home: Path, fault: Callable[[Path], AbstractContextManager[list[str]]]
) -> None:
    with fault(home) as through:
        script = app.run("try_to:a", through=through)
        assert "started False" in script.stdout
        assert app.tried()[0] == "StoreError"
        assert re.search(r"faults\.db cannot be .*[Rr]ead-only", script.stderr)
        assert len(script.stderr.splitlines()) == 1, script.stderr
        script.kill()


@pytest.mark.parametrize("kind", ["unset", "root", "closed"])
def test_74_a_user_without_a_home_is_told_what_to_set(
    users_app: App, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.delenv("AUTOCRON_HOME")
    monkeypatch.delenv("HOME")
    folder = home / "closed"
    folder.mkdir(mode=0o500)
    os.chown(folder, USER, USER)
    environment = {"unset": {}, "root": {"HOME": "/"}, "closed": {"HOME": str(folder)}}[kind]
    script = users_app.run("try_to:a", env=environment, through=as_user())
    assert "started False" in script.stdout
    assert users_app.tried()[0] == "StoreError"
    assert "set AUTOCRON_HOME" in script.stderr
    assert len(script.stderr.splitlines()) == 1, script.stderr


def test_73_a_path_that_is_too_long_for_a_socket(
    app: App, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / ("deep" * 30) / ("down" * 30)
    folder.mkdir(parents=True)
    monkeypatch.setenv("AUTOCRON_HOME", str(folder))
    assert "started True" in app.run("tell:a").stdout
    app.wait_for("tell a")
    assert "started False" in app.run("tell:b").stdout
    app.wait_for("tell b")
    wait_for_pool()


def test_tasks_come_back_when_the_file_can_be_used(app: App, home: Path) -> None:
    app.add(TRY_ON)
    (home / "faults.db").mkdir()
    script = app.start("try_on:visits")
    app.wait_for("tried StoreError", count=3)
    (home / "faults.db").rmdir()
    app.wait_for("tried stored", timeout=30)
    app.wait_for("tell visits")
    wait_for_pool()
    assert script.stderr.count("background tasks are off") == 1
    app.release("visits")


# -- under a pool ---------------------------------------------------------------------------------


def delete(database: Path, other: Path) -> None:
    database.unlink()


def delete_all(database: Path, other: Path) -> None:
    for file in database.parent.glob(f"{database.name}*"):
        if file.suffix not in (".lock", ".sock"):
            file.unlink()


def replace(database: Path, other: Path) -> None:
    """As somebody who restores a backup, and knows that the WAL does not belong to it."""
    delete_all(database, other)
    os.replace(other, database)


def replace_alone(database: Path, other: Path) -> None:
    os.replace(other, database)


def delete_wal(database: Path, other: Path) -> None:
    Path(f"{database}-wal").unlink()


def delete_shm(database: Path, other: Path) -> None:
    Path(f"{database}-shm").unlink()


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        pytest.param(delete, "deleted", id="63-deleted"),
        pytest.param(delete_all, "deleted", id="63-all-deleted"),
        pytest.param(replace, "replaced by another file", id="64-restored"),
        pytest.param(replace_alone, "replaced by another file", id="64-replaced"),
        pytest.param(delete_wal, "deprived of its -wal or -shm file", id="66-wal"),
        pytest.param(delete_shm, "deprived of its -wal or -shm file", id="66-shm"),
    ],
)
def test_a_pool_ends_loudly_when_its_files_are_gone(
    app: App, home: Path, tmp_path: Path, harm: Callable[[Path, Path], None], word: str
) -> None:
    app.add(TRY_ON)
    with closing(SqliteStore(home / "other.db")) as other:
        other.adopt("application")
    database = home / "faults.db"
    script = app.start("try_on:visits")
    app.wait_for("tell visits", count=3)
    wait_for_pool()
    app.store.close()
    harm(database, home / "other.db")
    app.wait_for("tried StoreGone", count=3)
    wait_until(lambda: not pool_processes(), 30, "the end of the pool")
    assert f" was {word} while it was in use" in script.stderr
    assert len(script.stderr.splitlines()) < 5, script.stderr
    assert "Traceback" not in script.stderr
    if harm in (delete, delete_all):
        assert not database.exists(), "nothing makes an empty one in its place"
    # The site goes on, without its tasks, until it is restarted.
    refused = len(app.lines("tried StoreGone"))
    app.wait_for("tried StoreGone", count=refused + 3)
    assert script.process.poll() is None
    app.release("visits")
    script.wait_for("called")
    script.process.terminate()
    assert script.wait() == 0
    assert "started True" in app.run("tell:again").stdout
    app.wait_for("tell again")
    wait_for_pool()
    assert is_sound(database)


def is_sound(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
