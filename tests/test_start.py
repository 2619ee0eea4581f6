"""`start()` says one sentence, whatever the operating system throws; calls then say it too, and try again."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web import client
from autocron_web import engine as engine_module
from autocron_web.engine import Engine
from autocron_web.errors import StoreError
from autocron_web.jobs import Job, new_id, now
from autocron_web.store.sqlite import SqliteStore


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    engine = Engine()
    monkeypatch.setattr(engine_module, "engine", engine)
    yield engine
    if engine._link is not None:
        engine._link.leave()


def call(engine: Engine) -> None:
    job = Job(new_id(), "shop.send", now(), now())
    assert engine.client.enqueue([job]) == [job.id]


TROUBLES = [
    OSError(errno.EMFILE, "Too many open files", "/x/a.db"),
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied", "/x"),
    MemoryError(),
    RuntimeError("can't start new thread"),
    sqlite3.OperationalError("disk I/O error"),
    ImportError("No module named '_sqlite3'"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
]


def throw(error: Exception) -> Any:
    def thrower(*args: object, **kwargs: object) -> None:
        raise error

    return thrower


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["path", "open", "adopt", "settings", "close"])
def test_whatever_is_thrown_at_a_step_is_one_sentence(
    engine: Engine,
    place: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as broken:
        if place == "path":
            broken.setattr(engine_module, "database_path", throw(error))
        else:
            broken.setattr(SqliteStore, place, throw(error))
        with pytest.raises(StoreError):
            engine.start("a.db", app_id="x", strict=True)
        assert caplog.records == []
        assert engine.start("a.db", app_id="x") is False
        (record,) = caplog.records
        assert record.getMessage().startswith("background tasks are off: ")
        assert record.exc_info is None
        for _ in range(3):
            with pytest.raises(StoreError) as raised:
                call(engine)
            assert str(raised.value) in record.getMessage()
        assert engine.start("a.db", app_id="x") is False
        assert len(caplog.records) == 1
    assert isinstance(engine._client, client.BrokenClient)
    engine._client._again = 0.0  # five seconds later
    call(engine)
    assert len(caplog.records) == 1


def test_a_folder_that_has_gone_in_the_meantime_is_the_store_s_trouble(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is not wrong, whatever `start()` was given."""
    folder = tmp_path / "data"
    folder.mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(SqliteStore, "open", throw(OSError(errno.EIO, "Input/output error")))
        assert engine.start(folder / "a.db", app_id="x") is False
    folder.rmdir()
    for _ in range(3):
        engine._client._again = 0.0  # type: ignore[union-attr] # it is the broken one
        with pytest.raises(StoreError, match="does not exist"):
            call(engine)
    folder.mkdir()
    engine._client._again = 0.0  # type: ignore[union-attr] # as above
    call(engine)


@pytest.mark.parametrize("database", ["y" * 300 + "/x.db", "x" * 300 + ".db", "a\ud800.db"])
def test_names_that_the_system_refuses(
    engine: Engine, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert engine.start(f"{tmp_path}/{database}", app_id="x") is False
    assert len(caplog.records) == 1


@pytest.mark.parametrize("database", ["none/x.db", "a\0b.db", ""])
def test_names_that_cannot_be_are_a_mistake_of_the_caller(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    with pytest.raises(autocron.ConfigError):
        engine.start(f"{tmp_path}/{database}" if database else "", app_id="x")


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", os.devnull),
        OSError(errno.E2BIG, "Argument list too long"),
        ValueError("embedded null byte"),
        RuntimeError("can't fork at interpreter shutdown"),
        subprocess.SubprocessError("Exception occurred in preexec_fn."),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_pool_that_cannot_be_started_costs_no_call(
    engine: Engine, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from autocron_web import launch

    class Popen:
        def __init__(self, *args: object, **kwargs: object) -> None:
            raise error

    monkeypatch.setattr(engine_module.serving, "why_not", lambda process: None)
    monkeypatch.setattr(launch.subprocess, "Popen", Popen)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert engine.start("a.db", app_id="x") is False
    for _ in range(20):
        call(engine)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == ("shutdown" not in str(error))
    assert all(line.startswith("the pool cannot be reached or started: ") for line in told)
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 8  # no pipe of a try is left open


def test_the_lock_of_a_start_is_that_of_one_process(engine: Engine) -> None:
    """A fork beside a thread that starts would inherit it locked for ever."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with engine._lock.mine():
            held.set()
            over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        with engine._lock.mine():
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    over.set()
    thread.join()
