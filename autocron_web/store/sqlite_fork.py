"""What is done with the connections to all files when this process forks.

Opening a connection of its own is not enough for a child: SQLite keeps what it knows of a file's locks
in one place per process, so an inherited open connection makes it believe that the child has locks
that it has not (fcntl(2): a child inherits none), and its commits can get lost. So a connection is
closed before `os.fork()`, which is what https://sqlite.org/howtocorrupt.html, section 2.6, asks for.
Forks that do not run these hooks are those of servers written in C, such as uWSGI's. There only `Own`
helps, and that the master, which lives as long as its workers do, has the locks.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from types import FrameType
from typing import Protocol

from ..framelock import Turn

MOST_TRIES = 100  # of a hook that is interrupted again and again


class File(Protocol):
    def hold_for_fork(self, frame: FrameType) -> tuple[Turn, Turn]: ...


#: The files of this process.
FILES: weakref.WeakSet[File] = weakref.WeakSet()

_held: dict[int, list[Turn]] = {}  # by the thread that forks


def _before_fork() -> None:
    """Close the connections to all files, and let no other thread open one until the fork has been made.

    Python forks although a hook has raised, and only prints what that was. So the exception of a signal
    handler, which reaches nobody here, must not keep this from being done.
    """
    turns = _held.setdefault(threading.get_ident(), [])
    frame = sys._getframe(1)  # of the function that forks
    for file in list(FILES):
        _in_spite_of_exceptions(file, frame, turns)


def _in_spite_of_exceptions(file: File, frame: FrameType, turns: list[Turn]) -> None:
    tries = 0
    while True:
        try:
            turns += file.hold_for_fork(frame)
            return
        except BaseException:
            tries += 1
            if tries == MOST_TRIES:
                raise


def _after_fork_in_parent() -> None:
    """Let the other threads go on at once.

    If an exception keeps this from being run, they see a moment later that the function that forks goes on.
    A child has an `Own` of its own, whose locks are free.
    """
    for turn in _held.pop(threading.get_ident(), ()):
        turn.end()


if hasattr(os, "register_at_fork"):  # not on Windows
    # Twice: an exception that is waiting when the first one is called is raised before its first line.
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
    os.register_at_fork(before=_before_fork)
