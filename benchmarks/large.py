"""A store with a million waiting and a million finished jobs beside one with a hundred of each.

    python benchmarks/large.py [--jobs 1000000] [--rounds 200] [--folder FOLDER]

Prints the median of each operation on both, in milliseconds, and their ratio: the number of jobs should not
raise it above 2. The stores take turns, so that whatever else the machine does happens to both. It takes
about two minutes and 2 GB of the disk.
"""

from __future__ import annotations

import argparse
import functools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autocron_web.jobs import ERROR_TTL, Job, new_id, now
from autocron_web.store.rows import COLUMNS, row_of
from autocron_web.store.sqlite import SqliteStore
from autocron_web.web import facts, status

FEW = 100  # as many as a page shows
BATCH = 50_000
OWNER = "local"


def job() -> Job:
    return Job(id=new_id(), task="shop.send_mail", due=now(), created=now(), payload=b'["a@b.c"]')


def fill(path: Path, number: int) -> None:
    """So many jobs that wait, all of them due, and as many that are done."""
    done = job()._replace(state="done", finished=now(), expires=now() + ERROR_TTL, result=b"1", attempt=1)
    names = COLUMNS.removesuffix(", seq").split(", ")
    # Ids that come before all others, as those of older jobs do.
    values = ["printf('%s%035d', :prefix, number)" if name == "id" else f":{name}" for name in names]
    statement = f"""
        WITH RECURSIVE count (number) AS (
            SELECT :first UNION ALL SELECT number + 1 FROM count WHERE number < :last)
        INSERT INTO autocron_job ({", ".join(names)}) SELECT {", ".join(values)} FROM count"""
    store = SqliteStore(path, durability="normal")
    store.open()
    for prefix, each in enumerate((done, job())):
        row = dict(zip(names, row_of(each), strict=True)) | {"prefix": prefix}
        for first in range(1, number + 1, BATCH):
            page = row | {"first": first, "last": min(number, first + BATCH - 1)}
            store._file.write(functools.partial(_execute, statement, page))
    store.close()


def _execute(statement: str, values: dict[str, Any], connection: sqlite3.Connection) -> None:
    connection.execute(statement, values)


class Subject:
    """One of the two stores, and what is measured on it."""

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path)
        self._path = str(path)
        self._epoch = self._store.take_epoch(OWNER)
        self._claimed: list[Job] = []
        newest = self._store.jobs(limit=1)[0].seq
        assert newest is not None
        self._middle = newest // 2 + FEW

    def operations(self) -> dict[str, Callable[[], object]]:
        return {
            "enqueue": lambda: self._store.enqueue([job()]),
            "claim": self._claim,
            "settle": self._settle,
            "when the next one is due": lambda: self._store.next_due(now()),
            "purge, with nothing to purge": lambda: self._store.purge(now()),
            "get_results(): newest page": lambda: self._store.jobs(limit=FEW),
            "get_results(): page in the middle": lambda: self._store.jobs(limit=FEW, before=self._middle),
            "get_results(): newest done": lambda: self._store.jobs(limit=FEW, state="done"),
            "get_results(): of a task": lambda: self._store.jobs(limit=FEW, task="shop.send_mail"),
            "status, one word": lambda: self._status("none"),
            "status, whole document": lambda: self._status("full"),
        }

    def _claim(self) -> None:
        with self._store.batch(durable=False):
            self._claimed = self._store.claim(OWNER, self._epoch, 1, now())

    def _settle(self) -> None:
        self._store.settle([each._replace(state="waiting") for each in self._claimed], self._epoch)

    def _status(self, level: status.Level) -> None:
        facts.watch(self._path)._looked = -10.0  # it is to look again
        status.document(self._path, level)

    def close(self) -> None:
        self._store.close()


def milliseconds(operation: Callable[[], object]) -> float:
    began = time.perf_counter()
    operation()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--folder", help="on the disk that is to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        paths = [Path(name) / "small.db", Path(name) / "large.db"]
        for path, number in zip(paths, (FEW, arguments.jobs), strict=True):
            began = time.perf_counter()
            fill(path, number)
            seconds = time.perf_counter() - began
            print(
                f"{2 * number:>9,} jobs: {path.stat().st_size >> 20:,} MiB, made in {seconds:.0f} s",
                flush=True,
            )
        subjects = [Subject(path) for path in paths]
        both = [subject.operations() for subject in subjects]
        print(f"\n{'median of each, ms':36} {'small':>8} {'large':>8} {'ratio':>6}")
        took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in both[0]}
        for turn in range(arguments.rounds):
            for name in took:  # a claim is settled before the next one
                for which in (0, 1) if turn % 2 else (1, 0):  # one that comes after a sync may be slower
                    took[name][which].append(milliseconds(both[which][name]))
        for name, found in took.items():
            small, large = map(statistics.median, found)
            print(f"{name:36} {small:8.3f} {large:8.3f} {large / small:6.2f}")
        for subject in subjects:
            subject.close()


if __name__ == "__main__":
    main()
