"""Processes killed and stopped at random under load; afterwards the ledgers must agree.

AUTOCRON_RANDOM_SECONDS: how long; 20, and 60 where CI is set. For hours: `-o faulthandler_timeout=0` too.
AUTOCRON_RANDOM_SEED: the seed of an earlier run, which it has printed, to have the same faults again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, Script, pool_processes, wait_until
from ledgers import APPLICATION, Ledgers
from pool_app import pids

SECONDS = float(os.environ.get("AUTOCRON_RANDOM_SECONDS") or (60 if os.environ.get("CI") else 20))
SEED = int(os.environ.get("AUTOCRON_RANDOM_SEED") or random.SystemRandom().randrange(10**6))
APPS, RATE = 3, 8.0  # app processes, and calls of each in a second


class Chaos:
    """One fault after the other, as the dice fall."""

    def __init__(self, start_app: Callable[[int], Script]) -> None:
        self._dice = random.Random(SEED)
        self._start_app = start_app
        self._stopped: list[tuple[float, int]] = []  # when to continue which process
        self.apps = [start_app(number) for number in range(APPS)]
        self.started = APPS
        self.faults = 0  # processes that were ended
        self.log: list[str] = []

    def run(self, seconds: float) -> None:
        began = time.monotonic()
        end = began + seconds
        next_fault = began + 1
        while (moment := time.monotonic()) < end:
            self._continue(moment)
            if moment >= next_fault:
                next_fault = moment + self._dice.uniform(0.1, 0.8)
                self._cause(moment - began)
            time.sleep(0.01)
        self._continue(float("inf"))

    def _cause(self, moment: float) -> None:
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
        self._replace_apps()

    def _replace_apps(self) -> None:
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
def chaos(run_script: RunScript, tmp_path: Path) -> Chaos:
    file = tmp_path / "application.py"
    file.write_text(APPLICATION)
    environment = {"LEDGERS": str(tmp_path)}
    return Chaos(lambda number: run_script(file, RATE, f"{SEED}-{number}", env=environment, wait=False))


@pytest.mark.once
@pytest.mark.timeout(SECONDS + 150)
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

    wait_until(lambda: not unfinished(), 90, "the end of all jobs")
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
    assert not ledgers.lines("refusals")
    assert accepted > SECONDS * RATE / 2
    left = {file.name for file in home.iterdir()}
    assert left <= {"random.db", "random.db-wal", "random.db-shm", "random.db.lock"}, left  # I7
