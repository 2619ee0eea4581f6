"""A server that serves the sample app in a folder of its own, and what can be seen of it from outside."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore
from conftest import CHECKOUT, free_port
from living import Process, living

SHOP = Path(__file__).parent / "shop"

#: What a newer Python says when a process with threads forks. Nothing of ours may make it say so.
FORK_WARNING = "This process"


class Site:
    """The app's folder, its ledger, its store, and the server's processes.

    command: makes the server's command line from `port`, `pidfile` and `fifo`.
    user: who is to own the folder.
    """

    def __init__(
        self,
        command: Callable[..., list[str]],
        environment: Mapping[str, str],
        user: str | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ac-", dir="/tmp"))  # short: a socket's path has 108 bytes
        self.home = self.folder / "home"
        self.home.mkdir(0o700)
        self._code = self.folder / "code"
        shutil.copytree(SHOP, self._code, ignore=shutil.ignore_patterns("__pycache__"))
        self._ledger = self.folder / "ledger"
        self._ledger.touch()
        self._log = self.folder / "log"
        self.fifo = self.folder / "fifo"
        self._pidfile = self.folder / "pid"
        self.port = free_port()
        self._command = command(port=self.port, pidfile=self._pidfile, fifo=self.fifo)
        self._environment = {
            **os.environ,
            "AUTOCRON_HOME": str(self.home),
            "SHOP_LEDGER": str(self._ledger),
            "SHOP_PORT": str(self.port),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), sysconfig.get_path("purelib")]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": f"always:{FORK_WARNING}",
            **environment,
        }
        if user is not None:
            _give_to(user, self.folder)
        self._mark = f"SHOP_LEDGER={self._ledger}"
        self._started: list[subprocess.Popen[bytes]] = []
        self.pid = 0
        self.store = SqliteStore(self.home / "shop.db")

    # -- the server ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.wait_until_serving()

    def launch(self) -> None:
        """Start the server, in a process group of its own."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                cwd=self._code, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        self.pid = process.pid

    def wait_until_serving(self) -> None:
        """Wait until the server answers."""
        self.wait(lambda: self.ask("GET", "/") is not None, 20, "an answer of the server")

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def ask(self, method: str, path: str) -> dict[str, Any] | None:
        """The server's answer over a connection of its own, or None if it gave none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def post(self, path: str) -> int:
        """Have the app call a task; the pid of the process that did."""
        answer = self.ask("POST", path)
        if answer is None:
            pytest.fail(f"POST {path} was not answered.\n{self._report()}")
        return int(answer["pid"])

    def post_to(self, release: str, path: str) -> None:
        """Have the app call a task until this code did: the older one may serve until its last moment."""
        self._wait_for_answer(release, "POST", path)

    def deploy(self, release: str) -> None:
        """Change the app's code."""
        (self._code / "shop_release.py").write_text(f'RELEASE = "{release}"\n')

    def wait_for_release(self, release: str) -> None:
        """Wait until this code answers."""
        self._wait_for_answer(release, "GET", "/")

    def _wait_for_answer(self, release: str, method: str, path: str) -> None:
        def answers() -> bool:
            return (self.ask(method, path) or {}).get("release") == release

        self.wait(answers, 20, f"an answer of the release {release} to {method} {path}")

    def wait_for_pid_file(self, other_than: int) -> int:
        """The pid of gunicorn's new master, as soon as that has written it."""

        def others() -> list[int]:
            files = self.folder.glob("pid*")
            return [int(text) for file in files if (text := file.read_text()) and int(text) != other_than]

        self.wait(others, 20, "the pid file of a second master")
        return others()[0]

    # -- the end ---------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """SIGTERM to the server as a service manager does; SIGINT and SIGKILL to all of its processes."""
        if number == signal.SIGTERM:
            os.kill(self.pid, number)
        else:
            os.killpg(self._started[-1].pid, number)

    @property
    def serving(self) -> list[Process]:
        """The processes of the server."""
        for process in self._started:
            process.poll()  # so that none stays a zombie
        groups = {process.pid for process in self._started}
        return [process for process in self.processes() if process.group in groups]

    def wait_for_exit(self, timeout: float = 40) -> None:
        self.wait(lambda: not self.serving, timeout, "the end of the server")

    def processes(self) -> list[Process]:
        """All processes that live and have inherited this site's environment, the server's and ours."""
        return list(living(self._mark))

    def close(self) -> None:
        """Kill what still lives, and remove the folder."""
        while living := self.processes():
            for process in living:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has ended in between
            time.sleep(0.01)
        for started in self._started:
            started.wait(10)
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the pool --------------------------------------------------------------------------------------

    def pool(self) -> tuple[list[int], list[int]]:
        """The pids of the monitors and of the workers."""
        found = self.processes()
        return tuple(  # type: ignore[return-value]
            sorted(process.pid for process in found if process.role == role) for role in ("monitor", "worker")
        )

    def wait_for_pool(self, monitors: int = 1, workers: int = 2) -> tuple[list[int], list[int]]:
        """Wait until there are so many; their pids."""
        seen: list[tuple[list[int], list[int]]] = []

        def complete() -> bool:
            seen[:] = [self.pool()]
            return (len(seen[0][0]), len(seen[0][1])) == (monitors, workers)

        self.wait(complete, 15, f"{monitors} monitor and {workers} workers")
        return seen[0]

    def lines(self, start: str = "") -> list[list[str]]:
        """The lines of the ledger that begin with these words, split."""
        text = self._ledger.read_text().splitlines()
        return [line.split() for line in text if line.startswith(start)]

    def wait_for(self, start: str, count: int = 1, timeout: float = 20) -> list[list[str]]:
        """Wait until so many lines of the ledger begin so."""
        self.wait(lambda: len(self.lines(start)) >= count, timeout, f"{count} × {start!r} in the ledger")
        return self.lines(start)

    def release(self, word: str) -> None:
        """Let `hold(word)` return."""
        Path(f"{self._ledger}.{word}").touch()

    def jobs(self, kind: str = "call") -> list[Job]:
        """The jobs in the store: those of calls, or those of a cron's slots."""
        return [job for job in self.store.jobs(limit=1000) if job.kind == kind]

    # -- waiting ---------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout:g} s in vain: {what}\n{self._report()}")
            time.sleep(0.02)

    def _report(self) -> str:
        processes = "".join(f"\n  {p.pid} {p.group} {p.command}" for p in self.processes())
        ledger = "".join(f"\n  {' '.join(line)}" for line in self.lines() if line[0] != "tick")
        ticks = "".join(f"\n  {' '.join(line)}" for line in self.lines("tick")[-5:])
        jobs = "".join(f"\n  {job.state} {job.task} {job.reason or ''}" for job in self.jobs())
        return f"processes:{processes}\nledger:{ledger}{ticks}\ncalls:{jobs}\nlog:\n{self.log[-6000:]}"


def python_of(user: str) -> str | None:
    """A Python of this version that the user can run: this one, else the system's, else None."""
    owner = pwd.getpwnam(user)
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        command = [python, "-c", "import encodings, json"]
        try:
            if not subprocess.run(command, user=owner.pw_uid, cwd="/", stderr=subprocess.DEVNULL).returncode:
                return python
        except OSError:
            pass  # it lies in a folder of somebody else's
    return None


def _give_to(user: str, folder: Path) -> None:
    owner = pwd.getpwnam(user)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, owner.pw_uid, owner.pw_gid)
