"""A worker: loads the app, then runs one task after the other. It never opens the store.

It ends when the monitor does (parent-death signal), or closes the channel.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from .. import execution, reports
from ..decorators import Cron, crons, delay
from ..engine import engine
from ..execution import Outcome
from ..jobs import Job
from ..process import adopt_orphans, die_with_parent, moved_up
from ..tasks import registry
from .beside import Beside
from .line import Line
from .loader import (
    LoadError,
    app_files,
    executed,
    has_imported,
    import_modules,
    known_modules,
    load_app,
    note_files,
)
from .room import high
from .shelf import Done, WorkersShelf
from .traces import Traces, has_printed
from .wire import Frame, Kind
from .workerclient import WorkerClient

if TYPE_CHECKING:
    from .template import Template


def main(arguments: list[str]) -> None:
    """`worker CHANNEL_FD SHELF_FD NOTICE_FD PARENT_PID FILES`: started by the monitor.

    FILES: the limit of open files, which is lower than the monitor's.
    """
    *descriptors, parent, files = map(int, arguments)
    die_with_parent(parent)
    adopt_orphans()
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    channel, shelf, notice = (moved_up(fd, high()) for fd in descriptors)
    note_files()
    told = _Notice(notice)
    _heed_the_monitor_alone(told)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    worker = _Worker(Line(socket.socket(fileno=channel)), WorkersShelf(shelf), told, Traces(), parent)
    try:
        template = worker.serve()
        if template is not None:
            worker = worker.forked(template.serve(), template.known)
            worker.serve()
    except ConnectionError:  # the monitor is gone; or it has closed the channel while this was loading
        pass
    worker.end()


class _Worker:
    """Does what the frames on the line say, and what lies on the shelf, one after the other."""

    def __init__(
        self, line: Line, shelf: WorkersShelf, notice: _Notice, traces: Traces, monitor: int
    ) -> None:
        self._line = line
        self._shelf = shelf
        self._notice = notice
        self._client = WorkerClient(line)
        self._traces = traces
        self._monitor = monitor
        self._may_change_user = False
        self._beside = Beside(line, self._tell)
        engine.become_worker(self._client)

    def serve(self) -> Template | None:
        """Until the end of the channel, or an app that cannot be loaded, or of which this is the template."""
        while True:
            frame = self._line.next()
            if frame is None:
                return None
            if frame.kind == Kind.RUN:
                job: Frame | None = frame
                while job is not None:
                    job = self._run(job)
            elif frame.kind == Kind.LOAD:
                self._client.database = frame.head.get("database", self._client.database)
                template = None
                if "template" in frame.head:
                    from .template import Template

                    template = Template(self._line.sock, _load)
                answer = _load(frame.head) if template is None else template.load(frame)
                die_with_parent(self._monitor)
                self._may_change_user = 0 in os.getresuid()
                self._line.send(answer)
                if "trouble" in answer.head:
                    return None
                self._traces.take()
                if template is not None and template.unfit is None:
                    return template

    def forked(self, ends: list[int], known: dict[str, Any]) -> _Worker:
        """This process has been forked by the template, which has loaded the app: a worker of its own."""
        channel, shelf, notice, *streams = ends
        for fd, stream in enumerate(streams, 1):
            os.dup2(stream, fd)
            os.close(stream)
        self._notice.renew(moved_up(notice, high()))
        self._traces.renew()
        self._shelf.close()
        line, shelf = Line(socket.socket(fileno=moved_up(channel, high()))), moved_up(shelf, high())
        worker = _Worker(line, WorkersShelf(shelf), self._notice, self._traces, self._monitor)
        worker._client.database = self._client.database
        worker._may_change_user = self._may_change_user
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        worker._line.send(Frame(Kind.READY, 0, {**known, "pid": os.getpid()}))
        return worker

    def end(self) -> None:
        """Without waiting for threads that tasks have left behind."""
        if any(not thread.daemon for thread in threading.enumerate()[1:]):
            atexit._run_exitfuncs()
            execution.flush_output()
            os._exit(0)

    def _run(self, frame: Frame) -> Frame | None:
        """Run a job, tell how it has ended, and answer with the next one from the shelf.

        What the monitor has to heed before another job begins is told on the line: then there is none.
        """
        head = frame.head
        task = registry.get(head["task"])
        if task is None:  # this worker's app was loaded otherwise than that of the others
            self._tell(frame, Outcome({"unknown": True}, b""))
            return None
        if head["shared"]:
            self._client.alone = self._notice.job = None
            frame, outcome = self._beside.run(frame)
        else:
            self._client.alone = self._notice.job = head["id"]
            outcome = execution.run(task, head["id"], head["codec"], frame.blob, self._notice.reason)
        spent = self._traces.put_back(frame.head["task"])
        if self._may_change_user:  # the task may have done so, and have become root again
            die_with_parent(self._monitor)
        execution.flush_output()
        if spent:
            outcome.head["spent"] = spent
        elif outcome.is_plain and not has_imported() and not has_printed():
            done = Done(head["id"], outcome.head["codec"], outcome.head["seconds"], outcome.result)
            following = self._shelf.exchange(done)
            if following is not None:
                return following
        self._tell(frame, outcome)
        return None

    def _tell(self, frame: Frame, outcome: Outcome) -> None:
        """How the job of this frame has ended."""
        head = frame.head
        outcome.head["id"] = head["id"]
        files = app_files()
        if files:
            outcome.head["files"] = files  # the task has imported more of the app
        error = outcome.error if head["last"] and reports.wanted() else None
        if error is not None and ("stopped" in head or self._notice.is_given(head["id"])):
            error = None  # the monitor has ended the job, and lets another worker report it
        if error is not None:
            outcome.head["reporting"] = True
        self._line.send(Frame(Kind.RESULT, frame.id, outcome.head, outcome.result))
        if error is not None:
            self._report(head, outcome.head, error)

    def _report(self, head: dict[str, Any], end: dict[str, Any], error: BaseException) -> None:
        """After the result, so that nothing in it can harm the job."""
        job = Job(
            head["id"], head["task"], 0, head["created"], queue=head["queue"], attempt=head["attempt"],
            error_type=end["error_type"], error=end["error"],
        )  # fmt: skip
        reports.call(job, error)
        spent = self._traces.put_back(f"the report of {job.task}")
        execution.flush_output()
        self._line.send(Frame(Kind.FREE, 0, {"spent": spent} if spent else {}))


class _Notice:
    """A pipe by which the monitor says, before a SIGTERM of its own, which job it ends, and why.

    That may be a job which this worker has not come to yet: it is remembered, and the job does not begin.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._told: dict[str, str] = {}  # reasons, by the ids of the jobs
        self._rest = b""  # of a notice that was read in part
        self.job: str | None = None  # the one that runs

    def renew(self, fd: int) -> None:
        """Another pipe, in a fork of this process."""
        os.close(self._fd)
        os.set_blocking(fd, False)
        self._fd = fd

    def read(self) -> str | None:
        """Why the running job is to end, if that is said now.

        None if the signal does not come from the monitor, or does so again, or is for another job.
        """
        try:
            *notices, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
        except OSError:  # nothing is there, or a task has closed the pipe
            return None
        said = dict(map(json.loads, notices))
        self._told |= said
        return said.get(self.job or "")

    def reason(self) -> str | None:
        """Why the running job is to end, if that was said before it could be stopped."""
        return self._told.get(self.job or "") if self._told else None

    def is_given(self, job_id: str) -> bool:
        """Whether this job was to end, also where the task has a handler of its own for the signal."""
        self.read()
        return job_id in self._told


def _heed_the_monitor_alone(notice: _Notice) -> None:
    """Let SIGTERM end the running task if the monitor means it, and a notice says why; ignore others.

    A signal to all processes (Ctrl-C, a service's stop) reaches the monitor too, which lets jobs finish.
    These are handlers, not SIG_IGN, which programs that a task starts would inherit.
    """

    def terminate(number: int, frame: Any) -> None:
        reason = notice.read()
        if reason is not None:
            execution.stop(reason)

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
            import_modules(head["modules"], head["others"])
    except LoadError as error:
        return Frame(Kind.READY, 0, {"trouble": str(error)})
    files = app_files()
    if reports.wanted() and reports.LATE_REPORT not in registry:
        delay(name=reports.LATE_REPORT)(reports.late_report)
    at_once = {name: task.defaults.concurrency for name, task in registry.items()}
    known = {
        "tasks": sorted(registry),
        "concurrency": {name: number for name, number in at_once.items() if number > 1},
        "crons": [_cron_row(cron) for cron in crons.values()],
        "reports": reports.wanted(),
    }
    return Frame(Kind.READY, 0, {**known, "modules": known_modules(), "files": files, **executed()})
