"""Huey 3 with its SQLite storage and its consumer: as it comes, tuned, and tuned without durability."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import Any

from . import WORKERS, Peer


class Huey(Peer):
    """Two worker processes, everything else as it comes: a worker that finds nothing sleeps 0.1 to 10 s."""

    settings = "-w 2 -k process"
    fsync = ""
    options: tuple[str, ...] = ()

    _tasks: Any
    _consumer: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        os.environ["BENCH_HUEY_FSYNC"] = self.fsync
        os.environ["BENCH_HUEY_FILE"] = str(self.folder / "huey.db")
        self._tasks = importlib.import_module("peers.huey_tasks")

    def start(self) -> None:
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "peers.huey_tasks.huey"]
        self._consumer = subprocess.Popen(
            [*command, "-q", "-w", str(WORKERS), "-k", "process", *self.options]
        )

    def call(self, index: int) -> None:
        self._tasks.mark(index)

    def left(self) -> int:
        return int(self._tasks.huey.storage.queue_size())

    def stop(self) -> None:
        if self._consumer is not None:
            self._consumer.send_signal(signal.SIGINT)
            self._consumer.wait(10)


class HueyTuned(Huey):
    """The quickest that its options allow: a look at the queue every millisecond, no crons, fsync."""

    settings = "-w 2 -k process -d 0.001 -m 0.001 -b 1 -n, fsync=True"
    fsync = "yes"
    options = ("-d", "0.001", "-m", "0.001", "-b", "1", "-n")


class HueyNoSync(HueyTuned):
    """As before with `fsync=False`, which is `synchronous=OFF`: a loss of power can damage the file."""

    durable = "no"
    settings = "-w 2 -k process -d 0.001 -m 0.001 -b 1 -n, fsync=False"
    fsync = "no"
