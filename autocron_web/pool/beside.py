"""Jobs beside each other in one worker: the coroutines of tasks with `concurrency`, on one event loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, TextIO

from .. import execution
from ..execution import Outcome
from ..tasks import registry
from .line import Line
from .output import TAIL
from .wire import Frame, Kind
from .workerclient import current_job

if TYPE_CHECKING:
    import asyncio

Tell = Callable[[Frame, Outcome], None]


class Beside:
    """Runs a job, and those that come before it has ended, until none is left.

    `tell` is called with the frame of each that ends before the last one does, and its outcome.
    """

    def __init__(self, line: Line, tell: Tell) -> None:
        self._line = line
        self._tell = tell
        self._pid = os.getpid()
        self._running: dict[str, tuple[Frame, asyncio.Task[None]]] = {}
        self._last: asyncio.Future[tuple[Frame, Outcome]]
        self._loop: asyncio.AbstractEventLoop
        os.register_at_fork(after_in_child=self._forked)

    def run(self, first: Frame) -> tuple[Frame, Outcome]:
        """The frame and outcome of the last one. Raises ConnectionError at the end of the channel."""
        _keep_what_is_printed()
        from ..eventloop import event_loop, run

        self._loop, self._context = event_loop(), copy_context()
        return run(self._loop.create_task(self._serve(first)))

    async def _serve(self, first: Frame) -> tuple[Frame, Outcome]:
        loop = self._loop
        self._last = loop.create_future()
        # A thread of a job that waits for an answer reads for all, so the frames may come from there too.
        self._line.on_heard = partial(loop.call_soon_threadsafe, self._heed)
        on_end, self._line.on_end = self._line.on_end, self._end
        try:
            with self._line.read_by(loop):
                self._begin(first)
                self._line.read()  # it may have been cancelled before this worker has come to it
                self._heed()
                return await self._last
        finally:
            self._line.on_heard, self._line.on_end = None, on_end

    def _end(self) -> None:
        if not self._last.done():
            self._last.set_exception(ConnectionError("the monitor has gone"))

    def _heed(self) -> None:
        """Do what the monitor says of jobs. What else it says waits until none runs."""
        if self._last.done():
            return
        for frame in self._line.take(Kind.RUN, Kind.CANCEL):
            if frame.kind == Kind.RUN:
                self._begin(frame)
            elif frame.head["id"] in self._running:
                of, task = self._running[frame.head["id"]]
                of.head["stopped"] = frame.head["reason"]
                # Later, as a coroutine that is cancelled before its first step never begins, nor ends.
                self._loop.call_soon(task.cancel, frame.head["reason"])

    def _begin(self, frame: Frame) -> None:
        # The frame may have been read in the context of another job, which is none of this one's.
        task = self._context.run(self._loop.create_task, self._job(frame))
        self._running[frame.head["id"]] = frame, task

    async def _job(self, frame: Frame) -> None:
        head = frame.head
        current_job.set(head["id"])
        printed = _Tail()
        _printed.set(printed)
        task = registry.get(head["task"])
        if task is None:  # as in a worker that runs one after the other
            outcome = Outcome({"unknown": True}, b"")
        else:
            ended = partial(head.get, "stopped")
            outcome = await execution.run_beside(task, head["id"], head["codec"], frame.blob, ended)
        if os.getpid() != self._pid:
            os._exit(0)  # the task has forked, and this is the child
        outcome.head["output"] = printed.take()
        del self._running[head["id"]]
        if self._last.done():
            return
        if not self._running:
            self._last.set_result((frame, outcome))
            return
        try:
            self._tell(frame, outcome)
        except ConnectionError as error:
            self._last.set_exception(error)

    def _forked(self) -> None:
        """A task has forked: in the child no job goes on once this step of its own one has ended."""
        if self._running:
            self._loop.call_soon(os._exit, 0)


class _Tail:
    """What one job has printed last."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> None:
        self._text = (self._text + text)[-TAIL:]

    def take(self) -> str | None:
        data = self._text.encode("utf-8", "replace")[-TAIL:]
        return data.decode("utf-8", "ignore").replace("\0", "\N{REPLACEMENT CHARACTER}") or None


_printed: ContextVar[_Tail | None] = ContextVar("printed", default=None)


def _keep_what_is_printed() -> None:
    """The pipe to the monitor does not tell who of several has printed something."""
    for stream in (sys.stdout, sys.stderr):
        if "write" not in vars(stream):
            _split(stream)


def _split(stream: TextIO) -> None:
    write = stream.write

    def split(text: str) -> int:
        tail = _printed.get()
        if tail is not None:
            tail.add(text)
        return write(text)

    stream.write = split  # type: ignore[method-assign]  # what logs to this very object is to be kept, too
