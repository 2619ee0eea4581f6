"""A program with tasks in its main module, started as by its developer, and what can be seen from outside."""

from __future__ import annotations

import functools
import http.client
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore
from conftest import CHECKOUT, free_port
from living import Process, living

LISTENING = "0A"  # in /proc/net/tcp (proc(5))


class Program:
    """A folder of files, a store, a ledger that all processes write to, and the processes."""

    def __init__(self, nothing_left: list[Path]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ac-", dir="/tmp"))  # short: a socket's path has 108 bytes
        nothing_left.append(self.folder)
        self.code = self.folder / "code"
        self.code.mkdir()
        self.home = self.folder / "home"
        self.home.mkdir(0o700)
        self._ledger = self.folder / "ledger"
        self._ledger.touch()
        self._log = self.folder / "log"
        self._started: list[subprocess.Popen[bytes]] = []
        self.port = free_port()
        self.store = SqliteStore(self.home / "main.db")

    def write(self, **files: str) -> None:
        """Files by their names, where `__` stands for a folder: `shop__app` is `shop/app.py`."""
        for name, text in files.items():
            file = self.code / f"{name.replace('__', '/', 1) if name[0] != '_' else name}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """`python application.py PORT`, or `python` with other words, or another program."""
        words = list(command) or ["application.py", str(self.port)]
        if words[0].endswith(".py") or words[0].startswith("-") or (self.code / words[0]).exists():
            words.insert(0, sys.executable)
        paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=self.code, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={
                    **os.environ,
                    "AUTOCRON_HOME": str(self.home),
                    "LEDGER": str(self._ledger),
                    "PATH": f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', os.defpath)}",
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONWARNINGS": "ignore",
                    **environment,
                },
            )  # fmt: skip
        self._started.append(process)
        return process

    # -- what it does -----------------------------------------------------------------------------------

    def get(self, path: str) -> str | None:
        """The server's answer, or None if there was none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until_serving(self) -> None:
        self.wait(lambda: self.get("/") is not None, 30, "an answer of the server")

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def lines(self, start: str = "") -> list[list[str]]:
        """The lines of the ledger that begin with this word, split."""
        lines = [line.split() for line in self._ledger.read_text().splitlines()]
        return [line for line in lines if not start or line[0] == start]

    def wait_for(self, start: str, count: int = 1, timeout: float = 20) -> list[list[str]]:
        self.wait(lambda: len(self.lines(start)) >= count, timeout, f"{count} × {start!r} in the ledger")
        return self.lines(start)

    def jobs(self) -> list[Job]:
        return self.store.jobs()

    # -- its processes ----------------------------------------------------------------------------------

    def processes(self, role: str | None = None) -> dict[int, Process]:
        """Those that live and have inherited this program's environment, by pid; of one role if given."""
        found = living(f"LEDGER={self._ledger}")
        return {process.pid: process for process in found if role is None or process.role == role}

    def wait_for_pool(self, workers: int = 1) -> None:
        """Wait until the pool is complete."""

        def complete() -> bool:
            return (len(self.processes("monitor")), len(self.processes("worker"))) == (1, workers)

        self.wait(complete, 20, f"a monitor and {workers} workers")

    def listeners(self) -> dict[int, set[str]]:
        """The sockets that wait for TCP connections, by the pid of each process that has them."""
        listening = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
                fields = line.split()
                if fields[3] == LISTENING:
                    listening.add(f"socket:[{fields[9]}]")
        found = {}
        for pid in self.processes():
            sockets = _open_files(pid) & listening
            if sockets:
                found[pid] = sockets
        return found

    def close(self) -> None:
        """Kill the program, and let its pool end at once, not after its linger."""
        for pid in [*self.processes("")]:
            _signal(pid, signal.SIGKILL)
        for process in self._started:
            process.wait(10)
        for pid in self.processes("monitor"):
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in self.processes():
            _signal(pid, signal.SIGKILL)
        self.store.close()

    # -- waiting ----------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout:g} s in vain: {what}\n{self._report()}")
            time.sleep(0.02)

    def _report(self) -> str:
        processes = "".join(f"\n  {p.pid} {p.command}" for p in self.processes().values())
        jobs = "".join(f"\n  {job.task} {job.state} {job.reason} {job.error}" for job in self.jobs())
        return f"processes:{processes}\nledger: {self.lines()}\njobs:{jobs}\nlog:\n{self.log[-6000:]}"


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            found.add(os.readlink(file))
    except OSError:
        pass  # it, or one of its descriptors, is gone
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


@functools.cache
def is_installed(module: str) -> bool:
    """Whether the Python of these tests can import the module. Asked in a process that it may change."""
    command = [sys.executable, "-W", "ignore", "-c", f"import {module}"]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
