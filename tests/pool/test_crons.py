"""Crons in a real pool: each slot once, none on top of the other, missed ones made up for."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, cannot_run, wait_until
from pool_app import App, app, wait_for_pool  # noqa: F401
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

SCRIPT = """
import signal, sys, time

import autocron_web as autocron

@autocron.every(seconds=1)
def tick():
    with open(__file__ + ".ticks", "a") as file:
        file.write(f"{time.time()}\\n")

@autocron.every(seconds=1)
def long():
    with open(__file__ + ".long", "a") as file:
        file.write("begin\\n")
    time.sleep(2.5)
    with open(__file__ + ".long", "a") as file:
        file.write("end\\n")

@autocron.every(seconds=3000, start_now=True)
def at_once():
    with open(__file__ + ".once", "a") as file:
        file.write("once\\n")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(not autocron.stop(10)))
    print("started", autocron.start("crons.db"), flush=True)
    signal.pause()
"""


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_each_slot_runs_once_with_two_app_processes(
    run_script: RunScript, tmp_path: Path, home: Path
) -> None:
    file = tmp_path / "application.py"
    file.write_text(SCRIPT)
    ticks, long, once = (tmp_path / f"application.py.{name}" for name in ("ticks", "long", "once"))
    scripts = [run_script(file, wait=False) for _ in range(2)]
    for script in scripts:
        script.wait_for("started")
    wait_for_pool()
    wait_until(lambda: len(lines(ticks)) >= 6, 30, "six ticks")
    for script in scripts:
        script.process.terminate()
        script.wait(20)

    store = SqliteStore(home / "crons.db")
    jobs = store.jobs(limit=1000)
    slots = [job.due for job in jobs if job.task == "application.tick"]
    assert len(slots) == len(set(slots))
    assert all(due % 1_000_000 == 0 for due in slots)
    # A run that lasts 2.5 s leaves out the slots that it covers: begin and end take turns.
    assert lines(long)[:4] == ["begin", "end", "begin", "end"]
    assert lines(once) == ["once"]

    # After a pause the latest missed slot is made up for, and the cron that starts at once does not again.
    before = len(lines(ticks))
    time.sleep(2.2)  # two slots pass while nothing runs
    script = run_script(file, wait=False)
    wait_until(lambda: len(lines(ticks)) > before, 10, "a tick after the restart")
    script.process.terminate()
    script.wait(20)
    assert lines(once) == ["once"]
    slots = [job.due for job in store.jobs(limit=1000) if job.task == "application.tick"]
    assert len(slots) == len(set(slots))
    store.close()


def test_85_a_cron_that_is_gone_from_the_code_runs_no_more(
    run_script: RunScript, tmp_path: Path, home: Path
) -> None:
    file = tmp_path / "application.py"
    file.write_text(SCRIPT)
    ticks = tmp_path / "application.py.ticks"
    first = run_script(file, wait=False)
    wait_until(lambda: lines(ticks), 20, "a tick")
    file.write_text(SCRIPT.replace("@autocron.every(seconds=1)\ndef tick", "def tick"))
    second = run_script(file, wait=False)
    second.wait_for("started")
    store = SqliteStore(home / "crons.db")

    def settled() -> bool:
        """Two more runs of the other cron have begun, and none of this one since the first of them."""
        jobs = store.jobs(limit=1000)[::-1]
        names = [job.task.rpartition(".")[2] for job in jobs]
        tail = names[len(names) - names[::-1].index("tick") :] if "tick" in names else names
        return tail.count("long") >= 2

    wait_until(settled, 30, "an end of the ticks")
    assert "application.tick" in {job.task for job in store.jobs(limit=1000)}  # what has run is still there
    for script in (first, second):
        script.process.terminate()
        script.wait(20)
    store.close()


def test_a_cron_has_the_options_of_delay_beside_it(app: App) -> None:
    app.add("""
@autocron.every(seconds=3000, start_now=True)
@autocron.delay(retries=1, backoff=0.1, queue="night", priority=3, expires=60, minutes=5)
def over(tries=[]):
    tries.append(1)
    note("over", len(tries))
    if len(tries) == 1:
        raise ValueError("the first time")


@autocron.delay(timeout=7, queue="day")
@autocron.every(seconds=3000, start_now=True)
def under():
    note("under")
""")
    app.file.write_text(app.file.read_text().replace("workers=2", "workers=1"))
    app.run()
    jobs = {job.task.rpartition(".")[2]: job for job in app.wait_for_states("done", "done")}
    over, under = jobs["over"], jobs["under"]
    assert (over.kind, over.attempt, over.queue, over.priority) == ("cron", 2, "night", 3)
    assert over.meta["retries"] == 1
    assert (under.queue, under.meta) == ("day", {"timeout": 7})
    assert app.lines("over") == [["over", "1"], ["over", "2"]]


def test_a_zone_that_only_the_app_can_find_ends_no_pool(
    way: Way, with_tasks: WithTasks, tmp_path: Path
) -> None:
    zone, real = tmp_path / "zones" / "Mars" / "Olympus", Path("/usr/share/zoneinfo/Europe/Berlin")
    if not real.exists():
        cannot_run("the machine has no time zones")
    zone.parent.mkdir(parents=True)
    shutil.copy(real, zone)
    with_tasks(f"""
        import zoneinfo
        zoneinfo.reset_tzpath([{str(tmp_path / "zones")!r}])

        @autocron.cron("* * * * *", tz="Mars/Olympus")
        def each_minute(): ...
        """)
    script = way("""
        equal(add(1).get(20), 11)
        """)
    assert (
        "the cron more.each_minute runs by UTC: tz: 'Mars/Olympus' is not a time zone that" in script.stderr
    )
    assert "failed" not in script.stderr
