"""A small app in a process of its own, and a look at its pool from outside."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore
from autocron_web.web import facts, status
from conftest import RunScript, Script, pool_processes, wait_until

#: What the app can do is named on its command line: `tell:a` calls `tell("a")`.
APPLICATION = '''
import os, signal, subprocess, sys, time

import autocron_web as autocron

LEDGER = os.environ["LEDGER"]


def note(*words):
    with open(LEDGER, "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


@autocron.delay
def tell(word):
    note("tell", word, os.getpid())


@autocron.delay
def hold(word):
    """Run until the test makes the file `<ledger>.<word>`."""
    note("begin", word, os.getpid())
    while not os.path.exists(f"{LEDGER}.{word}"):
        time.sleep(0.01)
    note("end", word, os.getpid())


@autocron.delay
def vanish(word):
    note("begin", word, os.getpid())
    os._exit(0)


@autocron.delay
def parent(word):
    child = subprocess.Popen(["sleep", "300"])
    note("begin", word, child.pid)
    child.wait()


def try_to(word):
    """Call `tell`; note what has become of that, and how many milliseconds it took."""
    began = time.monotonic()
    try:
        tell(word)
        outcome = "stored"
    except Exception as error:
        outcome = type(error).__name__
    note("tried", outcome, int((time.monotonic() - began) * 1000))


def live():
    while True:
        time.sleep(0.5)  # not signal.pause(): a signal that comes just before it would be waited for again


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(not autocron.stop(10)))
    print("started", autocron.start("faults.db", workers=2), flush=True)
    for call in sys.argv[1:]:
        task, _, word = call.partition(":")
        globals()[task](word)
    print("called", flush=True)
    live()
'''


class App:
    """The app's process, its ledger, its store and its pool."""

    def __init__(self, run_script: RunScript, folder: Path, home: Path) -> None:
        self._run_script = run_script
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self.file = folder / "application.py"
        self.file.write_text(APPLICATION)
        self.store = SqliteStore(home / "faults.db")
        self._scripts: list[Script] = []

    def add(self, code: str) -> None:
        """More tasks and functions for the app processes that are started from now on."""
        self.file.write_text(self.file.read_text().replace("\nif __name__", f"\n{code}\n\nif __name__", 1))

    def start(self, *calls: str, env: Mapping[str, str] | None = None, through: Sequence[str] = ()) -> Script:
        """Start an app process that makes these calls and then waits for its end.

        through: the command that runs it, instead of this Python alone, such as `strace -f python3`.
        """
        environment = {"LEDGER": str(self._ledger), **(env or {})}
        file, arguments = self.file, list(calls)
        if through:
            file = self.file.with_name("start_through.py")
            file.write_text("import os, sys\nos.execvp(sys.argv[1], sys.argv[1:])\n")
            arguments = [*through, str(self.file), *calls]
        script = self._run_script(file, *arguments, env=environment, wait=False)
        self._scripts.append(script)
        return script

    def run(self, *calls: str, env: Mapping[str, str] | None = None, through: Sequence[str] = ()) -> Script:
        """The same, and wait until it has made them."""
        script = self.start(*calls, env=env, through=through)
        script.wait_for("called")
        return script

    def run_idle(self) -> tuple[int, set[int]]:
        """Start an app process whose workers have all been at work and wait for more; monitor and workers."""
        self.run("hold:r1", "hold:r2")
        self.wait_for("begin", count=2)
        self.release("r1")
        self.release("r2")
        self.wait_for_states("done", "done")
        (monitor,), workers = wait_for_pool()
        return monitor, workers

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write to the store meanwhile."""
        holder = sqlite3.connect(self.store.name, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            yield
        finally:
            holder.close()

    def close(self) -> None:
        """End what still runs, without the linger that follows a kill."""
        for line in self.lines("begin"):
            self.release(line[1])
        for script in self._scripts:
            script.process.send_signal(signal.SIGCONT)  # or any of its threads may get the next one
            script.process.terminate()
        for script in self._scripts:
            script.process.wait(15)
        self.store.close()

    def release(self, word: str) -> None:
        """Let `hold(word)` return."""
        self.beside_ledger(word).touch()

    def beside_ledger(self, word: str) -> Path:
        """What tasks know as `<ledger>.<word>`."""
        return Path(f"{self._ledger}.{word}")

    def lines(self, start: str = "") -> list[list[str]]:
        """The lines of the ledger that begin with these words, split."""
        text = self._ledger.read_text().splitlines()
        return [line.split() for line in text if line.startswith(start)]

    def wait_for(self, start: str, count: int = 1, timeout: float = 15) -> list[list[str]]:
        wait_until(lambda: len(self.lines(start)) >= count, timeout, f"{count} × {start!r} in {self.lines()}")
        return self.lines(start)

    def tried(self) -> tuple[str, int]:
        """What has become of the last `try_to`: stored, or the name of an exception; milliseconds."""
        _, outcome, milliseconds = self.lines("tried")[-1]
        return outcome, int(milliseconds)

    def jobs(self) -> list[Job]:
        return self.store.jobs()

    def wait_for_states(self, *states: str, timeout: float = 15) -> list[Job]:
        """Wait until the jobs are in these states, oldest first."""

        def reached() -> bool:
            return [job.state for job in reversed(self.jobs())] == list(states)

        wait_until(reached, timeout, f"{states}: {[(job.task, job.state, job.error) for job in self.jobs()]}")
        return self.jobs()[::-1]

    def wait_for_counts(self, timeout: float = 30, **counts: int) -> None:
        """Wait until the store has so many jobs in each state and none in another."""
        wait_until(lambda: self.store.counts() == counts, timeout, f"{counts}, not {self.store.counts()}")


@pytest.fixture
def app(run_script: RunScript, tmp_path: Path, home: Path) -> Iterator[App]:
    app = App(run_script, tmp_path, home)
    yield app
    app.close()


def pids(role: str) -> set[int]:
    """The processes of this session's pools in this role: `monitor`, `worker` or `template`."""
    return {pid for pid, command in pool_processes().items() if f"__main__.py {role} " in f"{command} "}


def wait_for_pool(monitors: int = 1, workers: int = 2, timeout: float = 10) -> tuple[set[int], set[int]]:
    """Wait until there are so many; their pids."""

    found: tuple[set[int], set[int]] = set(), set()

    def complete() -> bool:
        nonlocal found
        found = pids("monitor"), pids("worker")
        return (len(found[0]), len(found[1])) == (monitors, workers)

    wait_until(complete, timeout, f"{monitors} monitor and {workers} workers, not {pool_processes()}")
    return found


def seconds_until(condition: Callable[[], object], timeout: float, what: str) -> float:
    """How long it took until the condition held."""
    import time

    began = time.monotonic()
    wait_until(condition, timeout, what)
    return time.monotonic() - began


def look(app: App) -> dict[str, Any]:
    """The status of now, not of a second ago."""
    facts.watch(app.store.name)._looked = -10.0
    return status.document(app.store.name, "full")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def cpu_seconds(pid: int) -> float:
    """What the process has used of a processor, without its children (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
