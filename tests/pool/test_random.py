"""Processes killed and stopped, a full disk, a file moved away, at random under load; the ledgers must agree.

AUTOCRON_RANDOM_SECONDS: how long; 20, and 60 where CI is set. For hours: `-o faulthandler_timeout=0` too.
AUTOCRON_RANDOM_PAUSE: seconds between two faults, on average; 0.45.
AUTOCRON_RANDOM_SEED: the seed of an earlier run, which it has printed, to have the same faults again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import storefaults
from autocron_web.store.sqlite import SqliteStore
from autocron_web.store.sqlite_file import LARGE_WAL
from conftest import RunScript, Script, pool_processes, wait_until
from ledgers import APPLICATION, Ledgers
from pool_app import pids
from storefaults import StoreFaults, held

SECONDS = float(os.environ.get("AUTOCRON_RANDOM_SECONDS") or (60 if os.environ.get("CI") else 20))
PAUSE = float(os.environ.get("AUTOCRON_RANDOM_PAUSE") or 0.45)
SEED = int(os.environ.get("AUTOCRON_RANDOM_SEED") or random.SystemRandom().randrange(10**6))
LONG = 300.0  # seconds: in a shorter run most processes are too young to tell whether they grow
APPS, RATE = 3, 8.0  # app processes, and calls of each in a second


class Chaos:
    """One fault after the other, as the dice fall."""

    def __init__(self, start_app: Callable[[int], Script], database: Path, *, small_disk: bool) -> None:
        self._dice = random.Random(SEED)
        self._start_app = start_app
        self._store = StoreFaults(database, self._dice, small_disk=small_disk)
        self._stopped: list[tuple[float, int]] = []  # when to continue which process
        self.apps = [start_app(number) for number in range(APPS)]
        self.started = APPS
        self.faults = 0  # processes that were ended
        self.log: list[str] = []
        self.samples: list[tuple[int, int]] = []  # memory in MiB and descriptors of the largest process

    def run(self, seconds: float) -> None:
        began = time.monotonic()
        end = began + seconds
        next_fault = began + 1
        while (moment := time.monotonic()) < end:
            self._continue(moment)
            self._store.end(moment)
            if moment >= next_fault:
                next_fault = moment + PAUSE * self._dice.uniform(0.2, 1.8)
                self._cause(moment - began)
                self.samples.append(held(set(pool_processes()) | {script.pid for script in self.apps}))
            time.sleep(0.01)
        self._continue(float("inf"))
        self._store.end(float("inf"))

    def _cause(self, moment: float) -> None:
        kind = self._dice.random()
        if kind < 0.2 and self._all_started():
            self.log.append(f"{moment:7.2f} store: {self._store.cause()}")
        elif kind < 0.22 and self._store.are_over:
            self.log.append(f"{moment:7.2f} store: moved away and back")
            self._move_store()
        else:
            self._end_process(moment)
        self._replace_apps()

    def _all_started(self) -> bool:
        """An app that starts where nothing can be stored has no tasks until it is restarted."""
        return all("started" in script.stdout for script in self.apps)

    def _move_store(self) -> None:
        self._continue(float("inf"))
        for script in self.apps:
            script.kill()
        self.faults += 1 + len(self.apps)
        self._store.move_away_and_back()

    def _end_process(self, moment: float) -> None:
        role, weight = self._dice.choices(("worker", "monitor", "app"), (5, 2, 2))[0], self._dice.random()
        candidates = sorted(pids(role)) if role != "app" else [script.pid for script in self.apps]
        if not candidates:
            return
        pid = self._dice.choice(candidates)
        if weight < 0.6:
            number = signal.SIGKILL
        else:
            number = signal.SIGSTOP if weight < 0.95 or role == "worker" else signal.SIGTERM
        self._signal(pid, number)
        if number == signal.SIGSTOP:
            self._stopped.append((time.monotonic() + self._dice.uniform(0.05, 2), pid))
        else:
            self.faults += 1
        self.log.append(f"{moment:7.2f} {number.name} to {role} {pid}")

    def _replace_apps(self) -> None:
        if not self._store.are_over:
            return  # as `_all_started` says
        for index, script in enumerate(self.apps):
            if script.process.poll() is not None:
                self.apps[index] = self._start_app(self.started)
                self.started += 1

    def _continue(self, moment: float) -> None:
        for due, pid in [each for each in self._stopped if each[0] <= moment]:
            self._stopped.remove((due, pid))
            self._signal(pid, signal.SIGCONT)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended meanwhile

    def end_calls(self) -> None:
        """From now on the app processes only live."""
        self._replace_apps()
        for script in self.apps:
            script.wait_for("started")
            script.process.send_signal(signal.SIGUSR1)


@pytest.fixture
def small_disk(home: Path) -> Iterator[bool]:
    """Whether `home` is on a disk of its own, which can be filled; not without the right to mount one."""
    unmount = storefaults.small_disk(home, "256m")
    yield unmount is not None
    if unmount is not None:
        unmount()


@pytest.fixture
def chaos(run_script: RunScript, tmp_path: Path, home: Path, small_disk: bool) -> Chaos:
    file = tmp_path / "application.py"
    file.write_text(APPLICATION)
    environment = {"LEDGERS": str(tmp_path)}

    def start(number: int) -> Script:
        return run_script(file, RATE, f"{SEED}-{number}", env=environment, wait=False)

    with closing(SqliteStore(home / "random.db")) as store:
        store.set_setting("result_ttl", "1000000")  # seconds: what was deleted could not be checked
    return Chaos(start, home / "random.db", small_disk=small_disk)


@pytest.mark.once
@pytest.mark.timeout(1.2 * SECONDS + 150)
def test_random_faults(tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> None:
    print(f"AUTOCRON_RANDOM_SEED={SEED}")
    ledgers = Ledgers(tmp_path, home / "random.db")
    chaos: Chaos = request.getfixturevalue("chaos")
    chaos.run(SECONDS)
    chaos.end_calls()
    store = SqliteStore(home / "random.db")

    def unfinished() -> list[str]:
        rows = [*store.jobs(state="waiting"), *store.jobs(state="running")]
        return [f"{job.task} {job.state} {job.attempt}" for job in rows if job.kind != "cron"]

    # Beside other work the pool may not have kept up with the calls, and has minutes of them before it.
    wait_until(lambda: not unfinished(), 90 + SECONDS / 10, "the end of all jobs")
    wal = home / "random.db-wal"
    wait_until(lambda: wal.stat().st_size <= LARGE_WAL, 15, "a WAL of the usual size")
    for script in chaos.apps:
        script.process.terminate()
    for script in chaos.apps:
        script.wait()
    wait_until(lambda: not pool_processes(), 20, "the end of the pool")
    print("\n".join(chaos.log))
    violations = ledgers.violations(store, chaos.faults)
    store.close()
    accepted = len(ledgers.accepted())
    print(
        f"{accepted} calls accepted, {len(ledgers.lines('refusals'))} refused, {chaos.faults} processes ended"
    )
    assert not violations, "\n".join(violations)
    refusals = {kind for kind, *_ in ledgers.lines("refusals")}
    assert refusals <= ({"StoreError"} if any("fill" in line for line in chaos.log) else set())
    assert accepted > SECONDS  # of some 24 a second on a quiet machine: there was a load
    assert is_flat(chaos.samples) or SECONDS < LONG, chaos.samples
    left = {file.name for file in home.iterdir()}
    assert left <= {"random.db", "random.db-wal", "random.db-shm", "random.db.lock"}, left  # I7


def is_flat(samples: list[tuple[int, int]]) -> bool:
    """Whether memory and descriptors were not more in the last third than in the first, but for a little."""
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    if not first:
        return True
    (memory, descriptors), (memory_after, descriptors_after) = (
        tuple(map(max, zip(*part, strict=True))) for part in (first, last)
    )
    print(f"at most {memory} MiB and {descriptors} descriptors, later {memory_after} and {descriptors_after}")
    return memory_after <= memory * 1.25 + 10 and descriptors_after <= descriptors + 15
