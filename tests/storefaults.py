"""Faults of the store that last for a while, for the random run: a reader, a writer, no room, no file."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from conftest import pool_processes, wait_until


class StoreFaults:
    """What was done to a database and is to be undone.

    small_disk: whether the database is on a disk of its own that can be filled.
    """

    def __init__(self, database: Path, dice: Random, *, small_disk: bool) -> None:
        self._database = database
        self._dice = dice
        self._kinds = {
            "read": self._read,
            "write": self._write,
            **({"fill": self._fill} if small_disk else {}),
        }
        self._ends: list[tuple[float, Callable[[], None]]] = []  # when to undo what

    @property
    def are_over(self) -> bool:
        return not self._ends

    def cause(self, kind: str) -> str | None:
        """Begin one of them, for at most two seconds; for how long, or None if it cannot be."""
        if kind not in self._kinds:
            return None
        seconds = self._dice.uniform(0.1, 2)
        undo = self._kinds[kind]()
        self._ends.append((time.monotonic() + seconds, undo))
        return f"for {seconds:.1f} s"

    def end(self, moment: float) -> None:
        """Undo those that have lasted until this moment."""
        for due, undo in [each for each in self._ends if each[0] <= moment]:
            self._ends.remove((due, undo))
            undo()

    def _read(self) -> Callable[[], None]:
        """A reader that keeps the WAL from being used anew."""
        reader = sqlite3.connect(self._database, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM autocron_job").fetchall()
        return reader.close

    def _write(self) -> Callable[[], None]:
        """A writer who lets nobody else write."""
        # No timeout: it would wait for the writer before it, which nobody could close meanwhile.
        writer = sqlite3.connect(self._database, isolation_level=None, timeout=0)
        with suppress(sqlite3.OperationalError):  # somebody writes just now, or the disk may be full
            writer.execute("BEGIN IMMEDIATE")
        return writer.close

    def _fill(self) -> Callable[[], None]:
        """The disk is full, for everybody."""
        ballast = self._database.with_name("ballast")
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(65536)):
                pass
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(512)):
                pass
        return lambda: ballast.unlink(missing_ok=True)

    def move_away_and_back(self) -> None:
        """The file is not there until the pool has seen that; no app process lives meanwhile."""
        aside = self._database.with_name("aside")
        os.rename(self._database, aside)
        wait_until(lambda: not pool_processes(), 30, "the end of a pool whose database is gone")
        assert not self._database.exists(), "nothing makes an empty one in its place"
        os.rename(aside, self._database)


def small_disk(folder: Path, size: str) -> Callable[[], None] | None:
    """Mount a disk in memory there, of this size (mount(8)); what unmounts it, or None if it may not be."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        return None

    def unmount() -> None:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

    return unmount


def held(processes: set[int]) -> tuple[int, int]:
    """The most MiB of memory, and the most descriptors, that one of these processes has."""
    memory = descriptors = 0
    for pid in processes:
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            memory = max(memory, pages * resource.getpagesize() >> 20)
            descriptors = max(descriptors, len(os.listdir(f"/proc/{pid}/fd")))
    return memory, descriptors
