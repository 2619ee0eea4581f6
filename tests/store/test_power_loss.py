"""Fault 21: what a loss of power leaves of a database that a real pool was using."""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from autocron_web.jobs import MAX_INTERRUPTIONS, now
from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, need
from powerloss import Disk, Step, Survivors, recorded, steps_of

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]  # seconds, of which a busy machine may need many

IMAGES = 480
CALLS = 40

APPLICATION = f"""
import os, sys

import autocron_web as autocron


@autocron.delay
def keep(number, ballast):
    return number


def note(word, result):
    os.write(ledger, f"{{word}} {{result.id}}\\n".encode())


if __name__ == "__main__":
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    autocron.start("power.db", durability=sys.argv[2])
    results = []
    for number in range({CALLS}):
        results.append(keep(number, "x" * 32_000))  # so much that the WAL is copied back meanwhile
        note("stored", results[-1])
    for result in results:
        result.get(timeout=60)
        note("done", result)
    autocron.stop(20)
"""


class Found(NamedTuple):
    """What is wrong with images: how many have lost a job or a result, and what SQLite says of others."""

    images: int
    lost: int
    lost_results: int
    damage: list[str]


class Recording(NamedTuple):
    steps: list[Step]
    database: Path
    ledger: Path

    def copied_back(self) -> bool:
        """Whether the WAL was copied into the database while the app made its calls or got its results."""
        paths = [step.call.path for step in self.steps if step.call.name in ("pwrite64", "write")]
        first = paths.index(str(self.ledger))
        last = len(paths) - paths[::-1].index(str(self.ledger))
        return str(self.database) in paths[first:last]

    def images(
        self, folder: Path, number: int = IMAGES, *, honest: bool = True
    ) -> Iterator[tuple[Path, Disk]]:
        """So many, at moments all over the recording."""
        moments = sum(map(Disk(self.database, self.ledger).step, self.steps))
        disk, dice = Disk(self.database, self.ledger, honest=honest), random.Random(21)
        chosen = set(dice.sample(range(moments), number // 3))
        survivors: tuple[Survivors, ...] = ("none", "some", "all")
        moment = 0
        for step in self.steps:
            if not disk.step(step):
                continue
            if moment in chosen:
                for each in survivors:
                    yield disk.write_image(folder, each, dice), disk
            moment += 1

    def judge(self, folder: Path, number: int = IMAGES, *, honest: bool = True) -> Found:
        images = lost = lost_results = 0
        damage = []
        for image, disk in self.images(folder, number, honest=honest):
            images += 1
            try:
                states = _states(image)
            except sqlite3.DatabaseError as error:
                damage.append(str(error))
                continue
            stored, done = (disk.acknowledged.get(word, set()) for word in ("stored", "done"))
            lost += not stored <= states.keys()
            lost_results += any(states.get(job) != "done" for job in done)
        print(
            f"{images} images, {lost} without an acknowledged job, {lost_results} without a result, {damage}"
        )
        return Found(images, lost, lost_results, damage)


def _states(image: Path) -> dict[str, str]:
    """The jobs in an image and the state of each. Raises `DatabaseError` if it is damaged."""
    with closing(sqlite3.connect(image)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError("; ".join(found))
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'autocron_job'").fetchone():
            return {}
        return dict(connection.execute("SELECT id, state FROM autocron_job").fetchall())


def record(run_script: RunScript, home: Path, folder: Path, durability: str) -> Recording:
    """What the processes of an app and its pool have written."""
    need("strace")
    database, ledger, trace = home / "power.db", folder / "ledger", folder / "trace"
    app = folder / "power_app.py"
    app.write_text(APPLICATION)
    run = "import os, sys\nos.execvp(sys.argv[1], sys.argv[1:])\n"
    command = [*recorded(database, ledger, trace), sys.executable, app, ledger, durability]
    run_script(run, *command, wait=False).succeed(timeout=120)
    return Recording(steps_of(trace), database, ledger)


def test_21_a_loss_of_power_loses_nothing_that_was_acknowledged(
    run_script: RunScript, home: Path, tmp_path: Path
) -> None:
    recording = record(run_script, home, tmp_path, "full")
    assert recording.copied_back(), "some images are of the moment at which the WAL is copied back"
    assert recording.judge(tmp_path) == Found(IMAGES, 0, 0, [])
    assert recording.judge(tmp_path, 60, honest=False).lost > 6, "a disk that lies is noticed"
    for image, disk in recording.images(tmp_path, 60):
        assert disk.acknowledged.get("stored", set()) <= waiting_or_done(image)


def waiting_or_done(image: Path) -> set[str]:
    """The jobs as the next pool finds them: whether or not a claim was on the disk, its job waits again."""
    with closing(SqliteStore(image, durability="normal")) as store:
        store.recover("local", store.take_epoch("local"), now(), MAX_INTERRUPTIONS)
        jobs = store.jobs(limit=1000)
    assert {job.state for job in jobs} <= {"waiting", "done"}
    return {job.id for job in jobs}


def test_21_with_normal_durability_the_last_calls_may_be_lost_but_the_file_is_sound(
    run_script: RunScript, home: Path, tmp_path: Path
) -> None:
    found = record(run_script, home, tmp_path, "normal").judge(tmp_path, 120)
    assert found.lost > 12
    assert (found.images, found.damage) == (120, [])
