"""The engine: an app process's side of autocron-web. Starts or joins the pool, leaves it, stores calls."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from . import origin, serving
from .checks import MOST_NOTE, check_patience, check_progress, check_query
from .client import AsyncClient, BrokenClient, Client, InlineClient, StoreClient
from .errors import ConfigError, NotStarted, StoreError, in_words
from .jobs import Job
from .postponed import OwnLock, Postponed
from .results import Result
from .settings import (
    StoreSettings,
    check_limit,
    check_workers,
    database_path,
    mode,
    preload,
    warn,
)

if TYPE_CHECKING:
    from .link import Link


#: When this process, or the one that it is a fork of, imported its code: the clock is the machine's.
_BORN = time.monotonic_ns()


class Engine:
    """One application's use of one store. `autocron_web.start`, `stop` … are those of the one `engine`."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._worker_client: AsyncClient | None = None  # that of a process which runs tasks
        self._link: Link | None = None
        self._path: str | None = None
        self.key_file: str | None = None  # with which pickles are signed
        self._workers: int | None = None
        self._limits: tuple[int | None, int | None] = (None, None)  # max_jobs, max_memory
        self._loader: dict[str, Any] | None = None
        self._serve = True
        self._in_worker = False
        self.is_tested = False  # a test records the calls, and nothing is to be started
        self.made_in_worker = False  # the app has called `start()` while a worker loaded it
        #: Tells how to do something after the commit of the transaction that is under way in the framework,
        #: or None if there is none. Set by adapters of frameworks that have transactions.
        self.transaction: Callable[[], Callable[[Callable[[], object]], object] | None] = lambda: None
        self._postponed: Postponed | None = None
        self._lock = OwnLock()  # held while this process starts: one link is enough for all of its threads
        self._warned: set[str] = set()

    # -- start and end ---------------------------------------------------------------------------------

    def start(
        self,
        database_file: str | os.PathLike[str],
        workers: int | None = None,
        *,
        app_id: str | None = None,
        loader: dict[str, Any] | None = None,
        strict: bool = False,
        durability: str = "full",
        serve: bool = True,
        max_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> bool:
        """Open the store, and start the pool or join the one that runs. Whether this call has started it.

        database_file: its name; a relative one lies in `AUTOCRON_HOME`, else in systemd's `STATE_DIRECTORY`,
            else in `~/.autocron`.
        workers: the number of worker processes; 2.
        app_id: whose store it is; the import name of the calling module.
        loader: how a worker loads the app, where an adapter knows; else the modules that have tasks.
        strict: raise `StoreError` where the store cannot be used. Otherwise that is logged, the site goes
            on, and calls raise it; every five seconds a call tries to start once more.
        durability: "full", or "normal": faster, and the last calls may be lost when power fails.
        max_jobs: the number of jobs after which a worker is replaced; none.
        max_memory: MiB; a worker that has more in use after a job is replaced; none.
        serve: False where an adapter knows that this process does not serve, whatever it looks like.

        In a process that does not serve (a shell, a test, a reloader's parent, a worker) nothing is
        started and the answer is False; calls are stored there too.

        Raises `ConfigError` for a name or a number that cannot be.

            autocron.start("shop.db", workers=2)
        """
        if self is not engine:
            self.__dict__ = engine.__dict__  # one application has one: this is another name for it
        if self._in_worker:
            self.made_in_worker = True
            self._warn_in_task("start")
            return False
        if durability not in ("full", "normal"):
            raise ConfigError(f"durability is {durability!r}: it can be 'full' or 'normal'")
        check_workers(workers)
        check_limit(max_jobs, "max_jobs")
        check_limit(max_memory, "max_memory")
        preload()  # a wrong value is told here, not by a thread that says hello later
        if sys.platform == "win32":
            warn("autocron-web starts no pool on Windows: use AUTOCRON_MODE=inline there")
            return False
        if self.is_tested or mode() == "inline":
            self._client = self._client or InlineClient()
            return False
        self._limits = max_jobs, max_memory
        self._workers, self._loader, self._serve = workers, loader or origin.django_loader(), serve
        app_id = app_id or origin.calling_module()
        forks = serving.forks()
        if forks is None:
            return self._begin(database_file, app_id, durability, strict)
        with suppress(OSError):
            from . import hello, link  # noqa: F401 - now, while this user may still read the files
            from .store import sqlite  # noqa: F401

        start = functools.partial(self._begin, database_file, app_id, durability, strict=False)
        self._postponed = Postponed(start, forks.user)
        self._postponed.begin_in_forks(green=forks.green)
        return False

    def _begin(self, database: str | os.PathLike[str], app_id: str, durability: str, strict: bool) -> bool:
        with self._lock.mine():
            try:
                path = database_path(database)
                if self._path not in (None, path):
                    raise ConfigError(
                        f"autocron-web uses {self._path} already:"
                        f" one application has one database, not {path} too"
                    )
                return self._start(path, app_id, durability)
            except ConfigError:
                raise
            except Exception as error:  # whatever the system throws, the site goes on
                trouble = error if isinstance(error, StoreError) else _not_usable(database, error)
                if strict:
                    raise trouble from error.__cause__ if trouble is error else error
                self._break(trouble, functools.partial(self._begin_again, database, app_id, durability))
                return False

    def _begin_again(self, database: str | os.PathLike[str], app_id: str, durability: str) -> None:
        """Try once more, for a call: that one is not wrong, even if there is no folder for the file now."""
        try:
            self._begin(database, app_id, durability, strict=False)
        except ConfigError as error:
            again = functools.partial(self._begin_again, database, app_id, durability)
            self._break(StoreError(str(error)), again)

    def _break(self, error: StoreError, again: Callable[[], object]) -> None:
        """Tell once why the store cannot be used; from now on each call does. `again` tries once more."""
        known = isinstance(self._client, BrokenClient) and str(self._client.error) == str(error)
        if not known:
            warn(f"background tasks are off: {error}")
        if not isinstance(self._client, StoreClient):  # else calls go on as they did before this `start()`
            self._client = cast(Client, BrokenClient(error, again))

    def _start(self, path: str, app_id: str, durability: str) -> bool:
        # All that a call needs is imported now: a fork beside a thread that imports locks up the child.
        import hashlib  # noqa: F401
        import inspect  # noqa: F401

        from . import codec, hello, reports  # noqa: F401
        from .link import Link
        from .store.sqlite import SqliteStore

        if self._link is None or self._path != path:
            store = SqliteStore(path, durability=durability)  # type: ignore[arg-type]
            try:
                store.open()
                store.adopt(app_id)
                locked = StoreSettings.read(store.settings()).autocron_lock
            finally:
                # A server written in C may fork this process now, without telling Python: no connection must
                # cross that, as SQLite would take the parent's locks for the child's. Calls open it again.
                store.close()
            if locked:
                self._client = InlineClient()
                return False
            self._link = Link(path, self._hello, serving=False, durability=durability)
            self._client = StoreClient(store, self._link)
            self.use(path)
        if not self._serve or mode() == "off" or serving.why_not(serving.this_process()) is not None:
            return False
        if not self._link.serving:
            atexit.register(self._leave_at_exit)
        self._link.serving = True
        return self._link.join()

    def start_where_served(self, database: str, **options: Any) -> None:
        """`start()`, with its options, for frameworks whose commands load the app and often call no task.

        Where this process does not serve, the store is opened, or made, by the first call only.
        """
        serve = serving.why_not(serving.this_process()) is None

        def start() -> None:
            self.start(database, **options, serve=serve)

        if serve or self._in_worker:
            start()
        else:
            self._postponed = Postponed(start, os.geteuid())

    def use(self, path: str) -> None:
        """This database, and the key beside it, are those of the app."""
        self._path, self.key_file = path, path + ".key"

    def _leave_at_exit(self) -> None:
        with suppress(SystemExit):  # a server's handler of a signal that comes just now: it is ending already
            self.leave()

    def leave(self) -> None:
        """This process does not count any more; the pool goes on while another one does. Returns at once.

        Calls are still stored. `start()` joins again.
        """
        if self._in_worker:
            self._warn_in_task("leave")
        elif self._link is not None and self._link.serving:
            self._link.leave()

    def stop(self, timeout: float | None = None) -> bool:
        """Leave; if this was the last app process, drain the pool and wait until all of it is gone.

        timeout: seconds to wait at most. The answer is whether the end was seen in time.
        """
        timeout = check_patience(timeout)
        if self._in_worker:
            self._warn_in_task("stop")
            return True
        if self._link is None or not self._link.serving:
            return True
        return self._link.stop(timeout)

    def _hello(self) -> dict[str, Any]:
        """What the monitor must know: who this is, and how a worker loads the app."""
        from . import __version__
        from .hello import way_of_loading

        return {
            "version": __version__,
            "born": _BORN,
            "workers": self._workers,
            "limits": self._limits,
            "preload": preload(),
            "load": way_of_loading(self._path, self._loader),
        }

    # -- calls -----------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """What calls talk to. Raises `NotStarted`."""
        if self._postponed is not None:
            self._postponed.begin()
        if isinstance(self._client, BrokenClient):
            self._client.try_again()
        if self._client is None and mode() == "inline":
            self._client = InlineClient()  # there is nothing to start
        if self._client is None:
            raise NotStarted(
                "autocron-web was not started: call autocron_web.start('shop.db') before the first task"
            )
        return self._client

    def situation(self) -> tuple[str | None, str, str]:
        """For the status: the path of the database, or a code and a sentence why this process has none."""
        try:
            client = self.client
        except NotStarted as error:
            return None, "not_started", str(error)
        if isinstance(client, BrokenClient):
            return None, "store_unusable", str(client.error)
        inline = isinstance(client, InlineClient)
        if inline and mode() != "inline":
            return None, "locked", "the store is locked: calls run at once, and nothing is started"
        if inline or self._path is None:
            return None, "inline", "calls of this process run at once or stay in it, and nothing is started"
        return self._path, "", ""

    def enqueue(self, jobs: Sequence[Job], *, on_commit: bool = True) -> list[Result[Any]]:
        """Store jobs; they are on disk when this returns.

        on_commit: in a transaction of the framework they are stored after its commit instead.
        """
        client = self.client
        if not jobs:
            return []
        after_commit = self.transaction() if on_commit else None
        if after_commit is not None:
            from .uncommitted import Uncommitted

            uncommitted = Uncommitted(jobs, client)
            after_commit(uncommitted.store)
            return list(uncommitted.results.values())
        return _results(jobs, client.enqueue(jobs), client)

    async def aenqueue(self, jobs: Sequence[Job]) -> list[Result[Any]]:
        """`enqueue` for event loops. Without `on_commit`: a thread has no part in any transaction."""
        client = self._worker_client
        if client is not None and client is self._client:
            return _results(jobs, await client.aenqueue(jobs), client)
        import asyncio

        return await asyncio.to_thread(self.enqueue, jobs, on_commit=False)

    def get_results(
        self, limit: int = 100, *, task: str | None = None, state: str | None = None
    ) -> list[Result[Any]]:
        """The newest jobs, newest first, at most `limit`; of one task or in one state if given."""
        limit = check_query(limit, task, state)
        client = self.client
        return [Result(job, client) for job in client.jobs(limit, task, state)]

    def progress(self, done: float, total: float | None, note: str | None) -> None:
        """What `autocron_web.progress` says of the running task."""
        if self._client is not None:
            note = None if note is None else str(note)[:MOST_NOTE]
            self._client.progress([*check_progress(done, total), note])

    def registered(self, module: str) -> None:
        """A task was defined in this module: workers that run already must import it too."""
        if self._link is not None:
            self._link.modules([module])

    # -- workers and tests -----------------------------------------------------------------------------

    def become_worker(self, client: AsyncClient) -> None:
        """From now on this process runs tasks, and its own calls go through `client`."""
        self._in_worker = True
        self._client = self._worker_client = client

    def exchange_client(self, client: Client | None) -> Client | None:
        """Let calls go to another client; the one before."""
        before, self._client = self._client, client
        return before

    def _warn_in_task(self, call: str) -> None:
        """Say once that it does nothing there; while a worker loads the app it is as it should be."""
        import logging

        from .pool.mainmodule import is_loading

        if not is_loading() and call not in self._warned:
            self._warned.add(call)
            logging.getLogger("autocron_web").warning(
                "autocron.%s() does nothing in a task: the app starts the pool, and ends it", call
            )

    @property
    def in_worker(self) -> bool:
        """Whether this process runs tasks."""
        return self._in_worker


def _results(jobs: Sequence[Job], ids: Sequence[str], client: Client) -> list[Result[Any]]:
    """ids: under which each of the jobs stands in the store."""
    return [
        Result(job if job.id == job_id else job._replace(id=job_id), client)
        for job, job_id in zip(jobs, ids, strict=True)
    ]


def _not_usable(database: str | os.PathLike[str], error: Exception) -> StoreError:
    """What the system has thrown at a start, as one of our errors."""
    return StoreError(f"the database {os.fspath(database)!r} cannot be used: {in_words(error)}")


#: The engine behind `autocron_web.start`, `delay` and all others. One application has one.
engine = Engine()
