"""Clocks that are set and machines that sleep, for a real pool under libfaketime. By fault number."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from autocron_web.jobs import SECOND
from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, Script, cannot_run, wait_until
from pool_app import cpu_seconds, wait_for_pool

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]

SCRIPT = """
import signal, sys
import autocron_web as autocron

@autocron.every(seconds=1)
@autocron.delay(result_ttl=10**9)
def tick(): ...

@autocron.cron("0 * * * *", tz="UTC")
@autocron.delay(result_ttl=10**9)
def hourly(): ...

@autocron.cron("0 2 * * *", tz="UTC")
@autocron.delay(result_ttl=10**9)
def daily(): ...

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(not autocron.stop(10)))
    print("started", autocron.start("clock.db"), flush=True)
    while True:
        signal.pause()
"""


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


class Machine:
    """An app, and the clock of its machine, which is so and so many seconds ahead of the real one."""

    def __init__(self, run_script: RunScript, folder: Path, home: Path) -> None:
        libraries = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            cannot_run("libfaketime is not installed")
        self._run_script = run_script
        self._file = folder / "clock"
        self._program = folder / "application.py"
        self._program.write_text(SCRIPT)
        self._ahead = 0.0
        self._environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as on a machine: only the wall clock is set
            "DONT_FAKE_MONOTONIC": "1",
        }
        self._scripts: list[Script] = []
        self.store = SqliteStore(home / "clock.db")

    def set(self, text: str) -> None:
        """Set the clock to a moment (UTC)."""
        self.turn((moment(text) - dt.datetime.now(dt.UTC)).total_seconds() - self._ahead)

    def turn(self, seconds: float) -> None:
        """Set the clock forward, or back."""
        self._ahead += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._ahead:+.6f}\n")
        new.replace(self._file)  # who reads it meanwhile reads the old one

    def start(self) -> Script:
        script = self._run_script(self._program, env=self._environment, wait=False)
        self._scripts.append(script)
        script.wait_for("started")
        return script

    def slots(self, cron: str) -> list[dt.datetime]:
        """The slots that have run or are to run, in the order in which they were stored."""
        jobs = [job for job in self.store.jobs(limit=10_000) if job.task == f"application.{cron}"]
        return [dt.datetime.fromtimestamp(job.due / SECOND, dt.UTC) for job in reversed(jobs)]

    def wait_for_slots(self, cron: str, count: int) -> list[dt.datetime]:
        # On a busy machine a test may miss the moment that it means; then the clock is looked at in a minute.
        wait_until(lambda: len(self.slots(cron)) >= count, 75, f"{count} runs of {cron}")
        return self.slots(cron)

    def wait_for_slot(self, cron: str, slot: dt.datetime) -> None:
        wait_until(lambda: slot in self.slots(cron), 75, f"the run of {cron} at {slot}")

    def more_ticks(self, count: int = 2) -> list[dt.datetime]:
        """Wait until there are so many more; all that came meanwhile."""
        before = len(self.slots("tick"))
        return self.wait_for_slots("tick", before + count)[before:]

    def close(self) -> None:
        for script in self._scripts:
            script.process.terminate()
            script.process.wait(20)
        self.store.close()


@pytest.fixture
def machine(run_script: RunScript, tmp_path: Path, home: Path) -> Iterator[Machine]:
    machine = Machine(run_script, tmp_path, home)
    yield machine
    machine.close()


def test_89_a_clock_that_is_set_forward_by_a_day_and_back_by_an_hour(machine: Machine) -> None:
    machine.set("2026-11-24T01:59:53")
    machine.start()
    machine.more_ticks(2)

    machine.turn(86_400)
    # Both of its slots have passed when the timer rings, and the later one runs.
    machine.wait_for_slot("daily", moment("2026-11-25T02:00"))
    caught_up = machine.more_ticks(2)
    assert caught_up[0] > moment("2026-11-25T01:59:55")
    ticks = machine.slots("tick")
    missed = [tick for tick in ticks if moment("2026-11-24T02:00:30") < tick < moment("2026-11-25T01:59:53")]
    assert len(missed) <= 1  # no run for each of 86,400 slots

    machine.turn(-5)
    assert min(machine.more_ticks(2)) > max(ticks)

    machine.turn(-3600)
    [monitor], _ = wait_for_pool()
    before, used = len(machine.slots("tick")), cpu_seconds(monitor)
    time.sleep(3)  # in which nothing is to happen
    assert len(machine.slots("tick")) <= before + 1  # one may have been on its way
    assert cpu_seconds(monitor) - used < 1  # it does not spin
    for cron in ("tick", "hourly", "daily"):
        slots = machine.slots(cron)
        assert slots == sorted(set(slots)), cron
    assert {job.state for job in machine.store.jobs(limit=10_000)} <= {"done", "waiting", "running"}


def test_89_a_clock_that_is_slewed(machine: Machine) -> None:
    """As NTP does it, only faster: by a tenth of a second ten times a second, first ahead and then back."""
    machine.set("2026-11-24T12:10:00")
    machine.start()
    machine.more_ticks(2)
    for step in [0.1] * 20 + [-0.05] * 20:
        machine.turn(step)
        time.sleep(0.1)
    machine.more_ticks(2)
    slots = machine.slots("tick")
    assert slots == sorted(set(slots))


def test_89_crons_go_on_when_a_clock_that_was_years_ahead_is_set_right(machine: Machine) -> None:
    machine.set("2036-01-01T12:10:00")
    script = machine.start()
    assert machine.more_ticks(2)[0].year == 2036
    machine.set("2026-11-24T12:10:00")
    # Those that were stored last may still have been of the other time.
    ticks = machine.more_ticks(4)[2:]
    assert [tick.year for tick in ticks] == [2026, 2026]
    assert "the cron application.tick ran by a clock that was ahead: it goes on from now" in script.stderr


def test_90_a_machine_that_sleeps_for_eight_hours(machine: Machine) -> None:
    machine.set("2026-11-24T15:59:52")
    script = machine.start()
    machine.more_ticks(2)
    [monitor], workers = wait_for_pool()
    pids = [script.pid, monitor, *workers]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    machine.turn(8 * 3600)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    machine.wait_for_slot("hourly", moment("2026-11-25T00:00"))
    machine.more_ticks(2)
    asleep = moment("2026-11-24T16:00:30"), moment("2026-11-24T23:59:52")
    for cron, most in (("tick", 1), ("hourly", 0), ("daily", 0)):
        slots = machine.slots(cron)
        assert slots == sorted(set(slots)), cron
        assert len([slot for slot in slots if asleep[0] < slot < asleep[1]]) <= most
    assert wait_for_pool() == ({monitor}, workers)  # nobody was taken for dead


# -- zones ---------------------------------------------------------------------------------------------


def zones(home: Path) -> dict[str, tuple[str, int]]:
    """The crons that the store knows: their zone and their last slot."""
    with closing(sqlite3.connect(home / "zones.db")) as connection:
        rows = connection.execute("SELECT name, zone, last_slot FROM autocron_cron").fetchall()
    return {name.rpartition(".")[2]: (zone, last_slot) for name, zone, last_slot in rows}


def test_91_a_machine_that_moves_to_another_zone(run_script: RunScript, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "application.py"
    file.write_text(
        SCRIPT.replace("clock.db", "zones.db").replace(
            ', tz="UTC")\n@autocron.delay(result_ttl=10**9)\ndef daily', ")\ndef daily"
        )
    )

    def start(zone: str) -> Script:
        script = run_script(file, env={"TZ": zone}, wait=False)
        script.wait_for("started")
        return script

    first = start("Europe/Berlin")
    wait_until(lambda: "daily" in zones(home), 20, "the crons")
    begun = zones(home)
    assert (begun["daily"][0], begun["hourly"][0], begun["tick"][0]) == ("Europe/Berlin", "UTC", "UTC")
    second = start("Asia/Tokyo")
    wait_until(lambda: zones(home)["daily"][0] == "Asia/Tokyo", 20, "the other zone")
    assert zones(home)["daily"][1] > begun["daily"][1]  # it begins anew
    assert zones(home)["hourly"] == begun["hourly"]
    for script in (first, second):
        script.process.terminate()
        script.wait(20)


def run_without_zones(run_script: RunScript, tmp_path: Path, source: str, env: Mapping[str, str]) -> Script:
    """Run a script on a machine without a database of time zones, neither the system's nor Python's."""
    (tmp_path / "tzdata.py").write_text("raise ImportError('not installed')\n")
    return run_script(source, env={"PYTHONTZPATH": "", **env})


def test_91_a_machine_without_time_zones_says_so(run_script: RunScript, tmp_path: Path) -> None:
    source = """
import datetime, logging
import autocron_web as autocron
from autocron_web.crontab import Crontab

logging.basicConfig()
noon = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
for tz in ("Europe/Berlin", "UTC", "+02:00", None):
    try:
        print(Crontab.parse("0 2 * * *", tz=tz).next_after(noon).astimezone(datetime.UTC).hour)
    except autocron.ConfigError as error:
        print(error)
Crontab.parse("0 3 * * *").zone_name
"""
    script = run_without_zones(run_script, tmp_path, source, {"TZ": "Nowhere/Berlin"})
    refused, *hours = script.stdout.splitlines()
    assert "tz: 'Europe/Berlin' is not a time zone that this machine knows" in refused
    assert "pip install tzdata" in refused
    assert hours == ["2", "0", "2"]
    assert script.stderr.count("'Nowhere/Berlin' is not known to it: crons without tz= run by UTC") == 1
    quiet = run_without_zones(run_script, tmp_path, source, {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"})
    assert quiet.stdout.splitlines()[1:] == ["2", "0", "0"]
    assert quiet.stderr == ""
