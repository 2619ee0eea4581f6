"""The descriptors that SQLite holds, in a process where somebody closes descriptors that are not his own.

A program that becomes a daemon, or a library that tidies up, may close all that it finds. What is opened
next gets the same numbers, and SQLite, which does not look, would write pages of the database into the
user's files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..process import identity

Descriptors = dict[int, "tuple[int, int] | None"]


def of_database(path: str) -> Descriptors:
    """The open descriptors of a database and what they stand for; none where there is no /proc (macOS)."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return {}
    wanted = _files_of(path)
    return {fd: found for fd in numbers if (found := identity(fd)) in wanted}


def _files_of(path: str) -> set[tuple[int, int]]:
    """The database, its WAL and its shared memory, as they stand in their folder."""
    files = set()
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            status = os.stat(path + suffix)
            files.add((status.st_dev, status.st_ino))
    return files


def look_at(descriptors: Descriptors) -> tuple[bool, bool]:
    """Whether they stand for what they stood for, and whether one of their files may have been deleted.

    Before each use of the database: one system call for each.
    """
    linked = True
    for fd, found in descriptors.items():
        try:
            status = os.fstat(fd)
        except OSError:
            return False, not linked
        if (status.st_dev, status.st_ino) != found:
            return False, not linked
        linked = linked and status.st_nlink > 0
    return True, not linked


def still_open(descriptors: Descriptors) -> Descriptors:
    """Those of them that stand for what they stood for."""
    return {fd: found for fd, found in descriptors.items() if identity(fd) == found}


def lead_to_deleted_files(descriptors: Descriptors, path: str) -> bool:
    """Whether one of the database's files has been deleted or replaced since they were opened.

    What is written to such a file is seen only by those who have it open, and lost with the last of them.
    """
    for fd, found in descriptors.items():
        with suppress(OSError):
            status = os.fstat(fd)
            # The latter, because some file systems count no links at all.
            if status.st_nlink == 0 and (status.st_dev, status.st_ino) == found not in _files_of(path):
                return True
    return False


@contextmanager
def set_aside(descriptors: Descriptors) -> Iterator[None]:
    """While inside, those that stand for something else lead to nothing, so that SQLite can close them.

    They lead to /dev/null, opened for reading: what SQLite tries to lock or to write there fails, and
    so it neither believes itself to be the last user of the database nor writes to it.
    """
    kept: list[tuple[int, int, bool]] = []  # number, copy, whether programs inherit it
    null = _copy_above(descriptors, os.open(os.devnull, os.O_RDONLY), close=True)
    changed = {fd: now for fd, found in descriptors.items() if (now := identity(fd)) != found}
    try:
        for fd, now in changed.items():
            if now is not None:
                kept.append((fd, _copy_above(descriptors, fd), os.get_inheritable(fd)))
            os.dup2(null, fd, inheritable=False)
        yield
    finally:
        for fd in changed:
            if identity(fd) == identity(null):  # it was not SQLite's
                os.close(fd)
        for fd, copy, inheritable in kept:
            os.dup2(copy, fd, inheritable)
            os.close(copy)
        os.close(null)


def _copy_above(descriptors: Descriptors, fd: int, *, close: bool = False) -> int:
    """A copy of a descriptor with a number that is none of these."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(descriptors) + 1)
    if close:
        os.close(fd)
    return copy
