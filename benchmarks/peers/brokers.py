"""Celery, RQ, Dramatiq and SAQ with a Redis of their own, two worker processes each, else as they come.

The server keeps a log of what it is told (`appendonly yes`), which it syncs every second, as its manual
recommends for data that matters: a loss of power costs the last second.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from typing import Any

from . import WORKERS, Peer


class Broker(Peer):
    """A Redis server on a socket in the folder; workers that import the module `tasks`."""

    durable = "no"
    tasks: str
    command: tuple[str, ...]

    _tasks: Any
    _redis: Any
    _server: subprocess.Popen[bytes] | None = None
    _workers: tuple[subprocess.Popen[bytes], ...] = ()

    def open(self) -> None:
        path = str(self.folder / "redis")
        options = {"dir": str(self.folder), "port": "0", "unixsocket": path, "appendonly": "yes", "save": ""}
        options["set-proc-title"] = "no"  # it would overwrite the mark by which it is found
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        self._redis = importlib.import_module("redis").Redis(unix_socket_path=path)
        self._wait_for_server()
        os.environ["BENCH_REDIS"] = path
        self._tasks = importlib.import_module(self.tasks)

    def _wait_for_server(self) -> None:
        """It refuses while it reads the log of the phase before."""
        errors = importlib.import_module("redis").exceptions
        deadline = time.monotonic() + 10
        while True:
            try:
                self._redis.ping()
                return
            except (errors.ConnectionError, errors.BusyLoadingError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def start(self) -> None:
        self._workers = tuple(
            subprocess.Popen([sys.executable, *self.command]) for _ in range(self.processes)
        )

    #: How many times the command is started: where one makes all workers, one.
    processes = 1

    def call(self, index: int) -> None:
        self._tasks.call(index)

    def left(self) -> int:
        return int(self._tasks.left(self._redis))

    def stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait(20)
        self._redis.shutdown(nosave=True)
        if self._server is not None:
            self._server.wait(10)


class Celery(Broker):
    """No results are kept: the task says `ignore_result`."""

    settings = f"-c {WORKERS}, Redis"
    tasks = "peers.celery_tasks"
    command = ("-m", "celery", "-A", tasks, "worker", "-c", str(WORKERS), "-l", "error")


class Dramatiq(Broker):
    settings = f"-p {WORKERS} -t 1, Redis"
    tasks = "peers.dramatiq_tasks"
    command = ("-m", "dramatiq", tasks, "-p", str(WORKERS), "-t", "1")


class Rq(Broker):
    """Each job in a process that its worker forks."""

    settings = f"{WORKERS} workers, Redis"
    tasks = "peers.rq_tasks"
    command = ("-c", f"from {tasks} import work; work()")
    processes = WORKERS


class Saq(Broker):
    settings = f"{WORKERS} workers, Redis"
    tasks = "peers.saq_tasks"
    command = ("-m", "saq", f"{tasks}.settings", "--quiet")
    processes = WORKERS
