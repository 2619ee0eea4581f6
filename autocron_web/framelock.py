"""A lock that no exception can leave locked, at whatever moment it comes.

A signal handler raises between any two steps of a program (the time limit of a request, Ctrl-C), and so does
`PyThreadState_SetAsyncExc`: also between taking a lock and the `try` behind it, or in the `finally` before it
is given back. So nobody has to give this one back. A function holds it, and it is free when that function no
longer runs, which the interpreter knows.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType

LOOK = 0.05  # seconds after which those who wait look whether the holder still runs


class Running:
    """One run of a function, as long as it lasts."""

    __slots__ = ("frame", "thread")

    def __init__(self, frame: FrameType | None) -> None:
        self.frame: FrameType | None = frame  # not that of a generator: `clear` would end it
        self.thread = threading.get_ident()

    def is_over(self) -> bool:
        """Whether it has ended, or has let go of `frame`."""
        frame = self.frame
        if frame is None:
            return True
        try:
            frame.clear()  # refused as long as the frame executes, in whatever thread or greenlet
        except RuntimeError:
            return False
        self.frame = None
        return True


class Turn(Running):
    """One run's time with a lock."""

    __slots__ = ("_waiting", "next")

    def __init__(self, frame: FrameType | None) -> None:
        super().__init__(frame)
        self.next: dict[None, Turn | None] = {}
        self._waiting: list[threading.Lock] = []  # wake who waits; whose turn it is does not depend on it

    def end(self) -> None:
        """Let the next one have its turn now, rather than when the function has ended."""
        self.frame = None
        while self._waiting:
            self._waiting.pop().release()

    def wait(self) -> None:
        """Wait a while for its end."""
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        if not self.is_over():  # else it has been, before it could know of this one
            mine.acquire(timeout=LOOK)


class ForkTurn(Turn):
    """The turn of a function that forks: it lasts until that function goes on to its next instruction."""

    __slots__ = ("_instruction",)

    def __init__(self, frame: FrameType) -> None:
        super().__init__(frame)
        self._instruction = frame.f_lasti

    def is_over(self) -> bool:
        frame = self.frame
        return frame is None or frame.f_lasti != self._instruction or super().is_over()


class FrameLock:
    """Reentrant: what runs inside the holder, in its thread, has it too.

    The turns are a chain. Each is hung on the one before by an atomic step (`setdefault`), when that is over.
    """

    def __init__(self) -> None:
        self._turn = Turn(None)  # the newest, or one before it

    def take(self, mine: Turn, answered: Callable[[], object] | None = None) -> bool:
        """Wait for the lock, and hold it until `mine` is over. False if `answered()` became true first."""
        turn = self._turn
        while True:
            while not turn.is_over():
                if turn.thread == mine.thread:
                    return True
                if answered is not None and answered():
                    return False
                turn.wait()
            if answered is not None and answered():
                return False
            following = turn.next.setdefault(None, mine)
            if following is mine:
                self._turn = mine
                turn.next[None] = None  # the chain begins with `mine`: what is before it can be forgotten
                return True
            turn = following or self._turn

    def holder(self) -> Turn | None:
        """The turn that is not over."""
        turn: Turn | None = self._turn
        while turn is not None and turn.is_over():
            turn = turn.next.get(None)
        return turn

    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""
        turn = self.holder()
        return turn is not None and turn.thread == threading.get_ident()

    def __enter__(self) -> None:
        """Hold it until the end of the block, or of the function with the block (no generator)."""
        self.take(Turn(sys._getframe(1)))

    def __exit__(self, *_: object) -> None:
        turn = self._turn
        if turn.frame is sys._getframe(1):  # else it is the turn of a function further out
            turn.end()
