"""A worker: loads the app, then runs one task after the other. It never opens the store.

It ends when the monitor does (parent-death signal), or closes the channel.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import socket
import sys
import threading
from typing import Any

from .. import execution
from ..decorators import Cron, crons
from ..engine import engine
from ..process import adopt_orphans, die_with_parent
from ..tasks import registry
from .line import Line, WorkerClient
from .loader import LoadError, app_files, defining_modules, executed, import_modules, load_app
from .traces import Traces
from .wire import Frame, Kind

HIGH = 100  # tasks that close "all" descriptors often stop before it


def main(arguments: list[str]) -> None:
    """`worker CHANNEL_FD NOTICE_FD PARENT_PID`: started by the monitor."""
    channel, notice, parent = map(int, arguments)
    die_with_parent(parent)
    adopt_orphans()
    channel, notice = _moved_up(channel), _moved_up(notice)
    os.set_blocking(notice, False)
    _heed_the_monitor_alone(notice)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    worker = _Worker(Line(socket.socket(fileno=channel)))
    try:
        worker.serve()
    except ConnectionError:  # the monitor is gone; or it has closed the channel while this was loading
        pass
    worker.end()


class _Worker:
    """Does what the frames on the line say, one after the other."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._client = WorkerClient(line)
        self._traces = Traces()
        engine.become_worker(self._client)

    def serve(self) -> None:
        """Until the end of the channel, or of an app that cannot be loaded."""
        while True:
            frame = self._line.next()
            if frame is None:
                return
            if frame.kind == Kind.RUN:
                self._client.parent = frame.head["id"]
                self._line.send(self._run(frame))
            elif frame.kind == Kind.LOAD:
                answer = _load(frame.head)
                self._line.send(answer)
                if "trouble" in answer.head:
                    return
                self._traces.take()

    def end(self) -> None:
        """Without waiting for threads that tasks have left behind."""
        if any(not thread.daemon for thread in threading.enumerate()[1:]):
            atexit._run_exitfuncs()
            execution.flush_output()
            os._exit(0)

    def _run(self, frame: Frame) -> Frame:
        head = frame.head
        task = registry.get(head["task"])
        if task is None:  # this worker's app was loaded otherwise than that of the others
            return Frame(Kind.RESULT, frame.id, {"unknown": True})
        outcome = execution.run(task, head["id"], head["codec"], frame.blob)
        spent = self._traces.put_back(task.name)
        execution.flush_output()
        if spent:
            outcome.head["spent"] = spent
        files = app_files()
        if files:
            outcome.head["files"] = files  # the task has imported more of the app
        return Frame(Kind.RESULT, frame.id, outcome.head, outcome.result)


def _moved_up(fd: int) -> int:
    """The descriptor under a number that few tasks touch, closed for programs that they start."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return high


def _heed_the_monitor_alone(notice: int) -> None:
    """Let SIGTERM end the running task if the monitor means it, and a notice says why; ignore others.

    A signal to all processes (Ctrl-C, a service's stop) reaches the monitor too, which lets jobs finish.
    These are handlers, not SIG_IGN, which programs that a task starts would inherit.
    """

    def terminate(number: int, frame: Any) -> None:
        try:
            reason = os.read(notice, 4096)
        except BlockingIOError:
            return
        execution.stop(reason.decode())

    def ignore(number: int, frame: Any) -> None:
        pass

    def heed() -> None:
        """A process that a task forks is ended by signals as any other: `multiprocessing` does so."""
        for number, ours, usual in (
            (signal.SIGTERM, terminate, signal.SIG_DFL),
            (signal.SIGINT, ignore, signal.default_int_handler),
        ):
            if signal.getsignal(number) is ours:
                signal.signal(number, usual)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    os.register_at_fork(after_in_child=heed)


def _cron_row(cron: Cron) -> list[Any]:
    """A cron for the monitor, which makes the schedule again from its text and zone."""
    schedule = cron.schedule
    options = registry[cron.task].defaults._replace(delay=0, schedule=None)
    return [cron.task, schedule.canonical, schedule.zone_name, [*options], *cron[2:]]


def _load(head: dict[str, Any]) -> Frame:
    try:
        if "path" in head:
            load_app(head)
        else:
            import_modules(head["modules"])
    except LoadError as error:
        return Frame(Kind.READY, 0, {"trouble": str(error)})
    files = app_files()
    known = {"tasks": sorted(registry), "crons": [_cron_row(cron) for cron in crons.values()]}
    return Frame(Kind.READY, 0, {**known, "modules": defining_modules(), "files": files, **executed()})
