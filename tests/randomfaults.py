"""The faults of the random run: each is a small function in a table, and can be chosen by its name."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from conftest import Script, pool_processes
from pool_app import pids
from storefaults import StoreFaults, held

APPS = 3  # app processes
# A process of ours may be stopped while it holds the lock of the database: others may then give up after 5 s.
LONGEST_STOP = 4.5  # seconds
DEPLOYS = 3.0  # seconds at least between two of them


class Chaos:
    """One fault after the other, as the dice fall.

    start_app: starts the n-th app process. module: of its tasks. faults: the names of those that are caused.
    """

    def __init__(
        self,
        start_app: Callable[[int], Script],
        module: Path,
        store: StoreFaults,
        faults: set[str],
        dice: random.Random,
    ) -> None:
        self.dice = dice
        self.store = store
        self.module = module
        self._start_app = start_app
        self._table = {name: fault for name, fault in FAULTS.items() if name in faults}
        self._stopped: list[tuple[float, int]] = []  # when to continue which process
        self.apps = [start_app(number) for number in range(APPS)]
        self._started = APPS
        self.ended = 0  # processes
        self.deployed = 0.0  # when the app's file was written last
        self.disturbed: list[float] = []  # when something was done to processes or the store
        self.log: list[str] = []
        self.samples: list[tuple[int, int]] = []  # memory in MiB and descriptors of the largest process

    def run(self, seconds: float, pause: float) -> None:
        """For so long, with so many seconds between two of them, on average."""
        began = time.monotonic()
        next_fault = began + 1
        while (moment := time.monotonic()) < began + seconds:
            self.proceed(moment)
            self.store.end(moment)
            if moment >= next_fault:
                next_fault = moment + pause * self.dice.uniform(0.2, 1.8)
                self._cause(moment - began)
                self.replace_apps()
                self.samples.append(held(set(pool_processes()) | {script.pid for script in self.apps}))
            time.sleep(0.01)
        self.proceed(float("inf"))
        self.store.end(float("inf"))
        if "future" in self._table:
            self.replace_apps()
            for script in self.apps:
                script.wait_for("started")
            self.deployed = 0.0
            future(self)  # so that what it does shows, if nothing else heals it
        self.disturbed.append(time.monotonic())

    def _cause(self, moment: float) -> None:
        if not self._table:
            return
        weights = [fault.weight for fault in self._table.values()]
        (name,) = self.dice.choices(list(self._table), weights)
        what = self._table[name].cause(self)
        if what is not None:
            self.disturbed.append(time.monotonic())
            self.log.append(f"{moment:7.2f} {name}: {what}")

    def all_started(self) -> bool:
        """An app that starts where nothing can be stored has no tasks until it is restarted."""
        return all("started" in script.stdout for script in self.apps)

    def replace_apps(self) -> None:
        """Start others for those that have ended."""
        if not self.store.are_over:
            return  # as `all_started` says
        for index, script in enumerate(self.apps):
            if script.process.poll() is not None:
                self.apps[index] = self._start_app(self._started)
                self._started += 1

    def proceed(self, moment: float) -> None:
        """Continue the processes that were stopped until this moment."""
        for due, pid in [each for each in self._stopped if each[0] <= moment]:
            self._stopped.remove((due, pid))
            self.disturbed.append(time.monotonic())
            self.signal(pid, signal.SIGCONT)

    def stop_for(self, pid: int, seconds: float) -> None:
        """Stop a process for so long."""
        self.signal(pid, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + seconds, pid))

    def choose(self, *roles: str) -> tuple[str, int] | None:
        """A role, and one of the processes that have it now."""
        role = self.dice.choice(roles)
        found = sorted(pids(role)) if role != "app" else [script.pid for script in self.apps]
        return (role, self.dice.choice(found)) if found else None

    @staticmethod
    def signal(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, number)

    def end_calls(self) -> None:
        """From now on the app processes only live."""
        self.replace_apps()
        for script in self.apps:
            script.wait_for("started")
            script.process.send_signal(signal.SIGUSR1)


# -- what is done from outside ------------------------------------------------------------------------------
# Each answers what it has done, or None if that could not be now.


def kill(chaos: Chaos) -> str | None:
    found = chaos.choose(
        "worker", "worker", "worker", "worker", "worker", "monitor", "monitor", "app", "app", "template"
    )
    if found is not None:
        chaos.ended += 1
        chaos.signal(found[1], signal.SIGKILL)
    return found and f"{found[0]} {found[1]}"


def terminate(chaos: Chaos) -> str | None:
    """An app process stops, and waits for the end of its pool; a monitor drains."""
    found = chaos.choose("monitor", "app")
    if found is not None:
        chaos.ended += 1
        chaos.signal(found[1], signal.SIGTERM)
    return found and f"{found[0]} {found[1]}"


def stop(chaos: Chaos) -> str | None:
    """As a debugger, a throttled container or a machine that sleeps does."""
    found = chaos.choose("worker", "worker", "monitor", "app", "template")
    if found is None:
        return None
    seconds = chaos.dice.choice((0.05, 0.2, chaos.dice.uniform(0.05, LONGEST_STOP)))
    chaos.stop_for(found[1], seconds)
    return f"{found[0]} {found[1]} for {seconds:.2f} s"


def move(chaos: Chaos) -> str | None:
    """The database is not there for a while."""
    if not chaos.store.are_over:
        return None
    chaos.proceed(float("inf"))
    for script in chaos.apps:
        script.kill()
    chaos.ended += 1 + len(chaos.apps)
    chaos.store.move_away_and_back()
    return "away and back"


def of_the_store(name: str) -> Callable[[Chaos], str | None]:
    def cause(chaos: Chaos) -> str | None:
        return chaos.store.cause(name) if chaos.all_started() else None

    return cause


def future(chaos: Chaos) -> str | None:
    """A deploy from a machine with another clock: the time of the app's file has been, or is yet to come."""
    if not chaos.all_started() or time.monotonic() < chaos.deployed + DEPLOYS:
        return None
    chaos.deployed = time.monotonic()
    hours = chaos.dice.choice((-1, 0, 1, 14))
    moment = time.time() + hours * 3600
    os.utime(chaos.module, (moment, moment))
    for script in chaos.apps:
        script.kill()
    for pid in pids("monitor"):  # as with a container, and its workers with it
        chaos.signal(pid, signal.SIGKILL)
    chaos.ended += 1 + len(chaos.apps)
    return f"{hours:+d} h"


def leave(chaos: Chaos) -> str | None:
    """All app processes leave for a moment, one shortly after the other, and join again."""
    if not chaos.all_started():
        return None  # one that has no handler yet would end
    for script in chaos.apps:
        chaos.signal(script.pid, signal.SIGUSR2)
    return "all"


class Fault(NamedTuple):
    weight: float  # how often, beside the others
    cause: Callable[[Chaos], str | None]


FAULTS = {
    "kill": Fault(5, kill),
    "terminate": Fault(0.4, terminate),
    "stop": Fault(3.5, stop),
    "read": Fault(0.8, of_the_store("read")),
    "write": Fault(0.8, of_the_store("write")),
    "fill": Fault(0.8, of_the_store("fill")),
    "move": Fault(0.2, move),
    "future": Fault(0.3, future),
    "leave": Fault(1, leave),
}

#: What app processes do themselves (`random_app.py`), and with how many of their calls.
IN_APPS = {"cancel": 0.03, "descriptors": 0.03, "interrupt": 0.3, "print": 1.0}

#: One app process knows the database by a link to it.
LINK = "link"

ALL = {*FAULTS, *IN_APPS, LINK}
