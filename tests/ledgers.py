"""An app whose every call and run stands in ledgers, and what the ledgers must say after any disaster.

The rules are I1 to I7 of docs/faults.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from autocron_web.jobs import MAX_CRASHES, Job
from autocron_web.store.sqlite import SqliteStore

#: Calls at a steady rate. An accepted call is noted, and on disk, before the next one is made; a run is
#: noted when it begins and ends, and holds a lock of its job's that a second run at the same time finds.
APPLICATION = '''
import contextlib, fcntl, os, random, signal, sys, time

import autocron_web as autocron
from autocron_web.engine import engine

FOLDER = os.environ["LEDGERS"]


def write(ledger, *words, sync=False):
    fd = os.open(f"{FOLDER}/{ledger}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    if sync:
        os.fsync(fd)
    os.close(fd)


@contextlib.contextmanager
def noted():
    job = engine.client.parent
    lock = os.open(f"{FOLDER}/locks/{job}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        write("overlaps", job, os.getpid())
    write("runs", "start", job, os.getpid())
    try:
        yield
        write("runs", "end", job, os.getpid())
    finally:
        os.close(lock)


def run(seconds):
    with noted():
        time.sleep(seconds)


@autocron.delay
def short():
    run(0)


@autocron.delay
def long(seconds):
    run(seconds)


@autocron.delay(timeout=5, retries=20, backoff=0.1)
def limited(seconds):
    run(seconds)


@autocron.delay(timeout=5, retries=20, backoff=0.1, concurrency=5)
async def beside(seconds):
    import asyncio  # here, as each app process would take a while for it

    with noted():
        await asyncio.sleep(seconds)


@autocron.delay(retries=2, backoff=0.1)
def failing():
    run(0.01)
    raise ValueError("as it should")


@autocron.every(seconds=1)
def tick():
    run(0.01)


def main():
    """Call at `sys.argv[1]` per second until SIGUSR1; from then on only live, until SIGTERM."""
    rate, dice, calling = float(sys.argv[1]), random.Random(sys.argv[2]), True

    def end_calls(*_):
        nonlocal calling
        calling = False

    signal.signal(signal.SIGUSR1, end_calls)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(not autocron.stop(20)))
    autocron.start("random.db", workers=3)
    print("started", flush=True)
    while True:
        time.sleep(1 / rate if calling else 0.1)
        if not calling:
            continue
        kind = dice.random()
        try:
            if kind < 0.4:
                result = short()
            elif kind < 0.6:
                result = beside(dice.random())
            elif kind < 0.8:
                result = long(dice.random() * 0.3)
            elif kind < 0.95:
                result = limited(dice.random() * 0.1)
            else:
                result = failing()
        except autocron.AutocronError as error:
            write("refusals", type(error).__name__, error)
        else:
            write("calls", result.id, sync=True)


if __name__ == "__main__":
    main()
'''


class Ledgers:
    """What the app of this folder has written, beside what is in its store."""

    def __init__(self, folder: Path, database: Path) -> None:
        self._folder = folder
        self._database = database
        (folder / "locks").mkdir()

    def lines(self, ledger: str) -> list[list[str]]:
        file = self._folder / ledger
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def accepted(self) -> set[str]:
        """The ids of the calls that returned."""
        return {job for (job,) in self.lines("calls")}

    def violations(self, store: SqliteStore, faults: int) -> list[str]:
        """What is against the rules, now that nothing waits or runs; `faults` processes were ended."""
        jobs = {job.id: job for job in store.jobs(limit=10**7)}
        starts: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        for word, job, _ in self.lines("runs"):
            (starts if word == "start" else ends)[job] += 1
        accepted = self.accepted()
        found = [f"I1: {job} was accepted, and is not in the store" for job in accepted - jobs.keys()]
        found += [f"I2: {job} ran, and was never stored" for job in starts.keys() - jobs.keys()]
        for job in jobs.values():
            found += _violations_of(job, starts[job.id], ends[job.id])
        for task, most in (("beside", 3 * 5), ("", 3)):  # there are three workers, and five of it in each
            repeated = sum(
                max(0, ends[job.id] - 1)
                for job in jobs.values()
                if job.error_type != "ValueError" and (job.task.endswith(".beside") == bool(task))
            )
            if repeated > most * faults:
                found.append(f"I3: {repeated} runs were repeated after their end, with {faults} faults")
        found += [f"I4: two runs of {job} at the same time" for job, _ in self.lines("overlaps")]
        slots = Counter((job.task, job.due) for job in jobs.values() if job.kind == "cron")
        found += [f"I5: slot {slot} has {number} jobs" for slot, number in slots.items() if number > 1]
        found += [f"I6: {row}" for row in _integrity(self._database) if row != "ok"]
        return found


def _violations_of(job: Job, starts: int, ends: int) -> list[str]:
    name = (
        f"{job.id} ({job.task}, {job.state}, attempt {job.attempt}, crashes {job.crashes}, {job.error_type})"
    )
    found = []
    if job.state == "done" and not ends:
        found.append(f"I1: {name} is done and did not run to its end")
    if job.state == "error" and not (
        (job.task.endswith(".failing") and job.error_type == "ValueError")
        or (job.error_type == "WorkerCrashed" and job.crashes == MAX_CRASHES)
    ):
        found.append(f"I1: {name} ended without a reason: {job.error}")
    if job.state not in ("done", "error") and not (job.kind == "cron" and job.state == "waiting"):
        found.append(f"I1: {name} is left over")
    if starts > job.attempt:
        found.append(f"I3: {name} ran {starts} times")
    return found


def _integrity(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")]
    finally:
        connection.close()
