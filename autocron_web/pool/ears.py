"""What workers say while they run jobs, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..process import kill_group
from .dispatch import Dispatcher
from .loop import Loop
from .output import Printer
from .shapes import checked
from .wire import Frame, Kind, WireError

if TYPE_CHECKING:
    from .member import Worker


class Ears:
    """Hears one worker at a time, and tells the dispatcher of its jobs and the crew of itself."""

    def __init__(self, loop: Loop, dispatch: Dispatcher, printer: Printer) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._printer = printer
        self.on_ready: Callable[[Worker, dict[str, Any]], None] = lambda worker, head: None
        self.on_ask: Callable[[Worker, Frame], None] = lambda worker, frame: None
        self.on_proven: Callable[[Worker], None] = lambda worker: None  # it has finished a job
        self.on_spent: Callable[[Worker], None] = lambda worker: None  # it can run no other task
        self.on_used_up: Callable[[Worker], None] = lambda worker: None  # it has run enough
        self.on_done: Callable[[Worker], None] = lambda worker: (
            None
        )  # it is retiring, and has no job any more

    def hear(self, worker: Worker) -> bool:
        """What it has laid down on its shelf, then what it says. Whether there is any of this.

        Read the other way round: what it has said came after what it had laid down before.
        """
        try:
            return self._hear(worker)
        except WireError as error:
            if not worker.runs.is_stopping:  # else stopped in the middle of a request
                self._printer.say(f"worker {worker.pid} is ended: {error}")
            self._loop.unwatch(worker.channel)
            kill_group(worker.pid)
            return False

    def _hear(self, worker: Worker) -> bool:
        frames = worker.channel.receive()
        done = worker.shelf.done() if worker.runs.behind else []
        if frames is None:
            self._loop.unwatch(worker.channel)  # it is ending: SIGCHLD follows
        if done:
            self.on_proven(worker)
            self._dispatch.done(worker, done)
            self._heed_end(worker, {})
        self.heed(worker, frames or [])
        if done or frames:
            self._dispatch.go_on()
        return bool(done or frames)

    def heed(self, worker: Worker, frames: list[Frame]) -> None:
        """What it says on its line."""
        for frame in map(checked, frames):
            if frame.kind == Kind.RESULT:
                self._finished(worker, frame)
            elif frame.kind == Kind.READY:
                self.on_ready(worker, frame.head)
            elif frame.kind == Kind.FREE:
                self._freed(worker, frame.head)
            else:
                self.on_ask(worker, frame)

    def _finished(self, worker: Worker, frame: Frame) -> None:
        head = frame.head
        if head["id"] not in worker.runs:
            return
        self.on_proven(worker)
        worker.files.update(head.get("files", {}))
        self._heed_end(worker, head)
        printed = worker.output.take()  # while several jobs run, by all of them
        self._dispatch.result(worker, head, frame.blob, head.get("output", printed))
        if worker.retiring and not worker.runs and not worker.reporting:
            self.on_done(worker)

    def _freed(self, worker: Worker, head: dict[str, Any]) -> None:
        """The app's functions have been told of the failed job."""
        worker.reported()
        worker.output.take()  # it has been shown, and belongs to no job
        self._heed_end(worker, head)
        if worker.retiring and not worker.runs:
            self.on_done(worker)

    def _heed_end(self, worker: Worker, head: dict[str, Any]) -> None:
        """Replace the worker if it may run no other task; let another one come if it has run enough."""
        if "spent" in head:
            self._printer.say(f"a worker is replaced: a task {head['spent']}")
            worker.retiring = True
            self.on_spent(worker)
        elif worker.is_staying and worker.limits.is_used_up(worker):
            worker.leaving = True
            self.on_used_up(worker)
