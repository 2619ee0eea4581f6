"""What the ledgers of `random_app.py` must say after any disaster.

The rules are I1 to I7 of docs/faults.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from autocron_web.codec import load_call
from autocron_web.jobs import MAX_CRASHES, Job
from autocron_web.store.sqlite import SqliteStore

#: Seconds in which an undisturbed pool hears of a cancelled job and ends it, on a busy machine.
HEARD = 10.0


class Disturbance(NamedTuple):
    """What was done to the processes meanwhile."""

    workers: int  # how many there are

    ended: int  # how many
    moments: list[float]  # when anything was done


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

    def violations(self, store: SqliteStore, disturbance: Disturbance) -> list[str]:
        """What is against the rules, now that nothing waits or runs."""
        jobs = {job.id: job for job in store.jobs(limit=10**7)}
        starts: defaultdict[str, list[float]] = defaultdict(list)
        ends: Counter[str] = Counter()
        for word, job, _, *moment in self.lines("runs"):
            if word == "start":
                starts[job].append(float(moment[0]))
            else:
                ends[job] += 1
        found = [f"I1: {job} was accepted, and is not in the store" for job in self.accepted() - jobs.keys()]
        found += [f"I2: {job} ran, and was never stored" for job in starts.keys() - jobs.keys()]
        for job in jobs.values():
            found += _violations_of(job, len(starts[job.id]), ends[job.id])
        for task, most in (("beside", 5), ("", 1)):  # there may be five of it in each worker
            repeated = sum(
                max(0, ends[job.id] - 1)
                for job in jobs.values()
                if job.error_type != "ValueError" and (job.task.endswith(".beside") == bool(task))
            )
            if repeated > most * disturbance.workers * disturbance.ended:
                found.append(
                    f"I3: {repeated} runs were repeated after their end, of {disturbance.ended} faults"
                )
        found += [f"I4: two runs of {job} at the same time" for job, _ in self.lines("overlaps")]
        slots = Counter((job.task, job.due) for job in jobs.values() if job.kind == "cron")
        found += [f"I5: slot {slot} has {number} jobs" for slot, number in slots.items() if number > 1]
        found += [f"I6: {row}" for row in _integrity(self._database) if row != "ok"]
        found += self._violations_of_calls(jobs)
        found += self._violations_of_cancels(jobs, starts, disturbance.moments)
        return found

    def _violations_of_calls(self, jobs: dict[str, Job]) -> list[str]:
        """An interrupted call is stored once or not, and one that was refused is not."""
        tokens = Counter(load_call(job.payload)[0][0] for job in jobs.values() if job.kind == "call")
        found = [
            f"I1: the call {token} is stored {number} times" for token, number in tokens.items() if number > 1
        ]
        stored = {token.partition(".")[0] for token in tokens}  # of one `enqueue_many` there are several
        return found + [
            f"I1: the call {token} has raised {kind}, and is stored ({' '.join(text)})"
            for kind, token, _, *text in self.lines("refusals")
            if token in stored
        ]

    def _violations_of_cancels(
        self, jobs: dict[str, Job], starts: dict[str, list[float]], disturbed: list[float]
    ) -> list[str]:
        """A job that has been cancelled does not begin any more, and never ends as done.

        While it runs its end can only be asked for. A monitor that dies at that moment, or is stopped, does
        not hear of it; so only those count that nothing was done to meanwhile.
        """
        asked = {job for word, job, *_ in self.lines("cancels") if word == "asked"}
        found = [
            f"I1: {job.id} is cancelled ({job.reason}), and nobody has asked for it"
            for job in jobs.values()
            if job.state == "cancelled" and job.id not in asked
        ]
        for word, job_id, *more in self.lines("cancels"):
            if word != "answered" or more[0] != "True" or job_id not in jobs:
                continue
            state, moment = more[1], float(more[2])
            job, last = jobs[job_id], max(starts.get(job_id) or [0.0])
            ran_on = job.state == "done" and last > moment
            calm = not any(moment - HEARD < each < moment + HEARD for each in disturbed)
            if state == "cancelled" and (job.state != "cancelled" or last > moment + 0.1):
                found.append(
                    f"I1: {job_id} ({job.task}) was cancelled, began {last - moment:.2f} s later: {job.state}"
                )
            elif ran_on and calm:
                found.append(
                    f"I1: {job_id} ({job.task}) began {last - moment:.2f} s after its cancel, and is done"
                )
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
    if job.state not in ("done", "error", "cancelled") and not (
        job.kind == "cron" and job.state == "waiting"
    ):
        found.append(f"I1: {name} is left over")
    if starts > job.attempt:
        found.append(f"I3: {name} ran {starts} times")
    last_words = f"last words of {job.id}\n" if job.kind == "call" and _has_printed(job) else ""
    if job.state == "done" and not (job.output or "").endswith(last_words):
        found.append(f"I3: the output of {name} is not its own: {job.output!r}")
    return found


def _has_printed(job: Job) -> bool:
    """Whether its last argument, the number of lines, is not 0."""
    return bool(load_call(job.payload)[0][-1])


def _integrity(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")]
    finally:
        connection.close()
