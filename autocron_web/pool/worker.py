"""A worker: loads the app, then runs one task after the other. It never opens the store.

It ends when the monitor does (parent-death signal), or closes the channel.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .. import execution
from ..client import present
from ..decorators import Cron, crons
from ..engine import engine
from ..errors import AutocronError
from ..jobs import FINISHED, Job
from ..process import die_with_parent
from ..tasks import registry
from .loader import LoadError, app_files, defining_modules, executed, import_modules, load_app
from .mainmodule import is_loading, reached
from .wire import Decoder, Frame, Kind, encode, pack_jobs, pieces, unpack_jobs

HIGH = 100  # tasks that close "all" descriptors often stop before it
ASK_PAUSE = 0.1  # seconds between looks at a job that a task waits for


class Line:
    """The worker's end of the channel: frames in order, and requests with answers, from any thread.

    A task may leave threads behind that go on asking while the worker waits for its next job. So
    whoever waits for a frame reads for all, and tells the others.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._decoder = Decoder()
        self._heard: deque[Frame] = deque()
        self._answers: dict[int, Frame] = {}
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        # Not an RLock: eventlet puts green ones in the place of those, this one while it is held.
        self._news = threading.Condition(threading.Lock())
        self._reading = False  # a thread is reading for all

    def send(self, frame: Frame) -> None:
        with self._writing:
            self._sock.sendall(encode(frame))

    def next(self) -> Frame | None:
        """The next thing to do, or None at the end of the channel."""
        return self._heard.popleft() if self._wait_for(lambda: bool(self._heard)) else None

    def ask(self, head: dict[str, Any], blob: bytes = b"") -> Frame:
        """Send a request of the running task and wait for its answer."""
        if os.getpid() != self._pid:
            raise AutocronError(
                "tasks cannot be called in a process that a task has forked: call them in the task itself"
            )
        number = next(self._numbers)
        self.send(Frame(Kind.ASK, number, head, blob))
        if not self._wait_for(lambda: number in self._answers):
            os._exit(1)  # the monitor is gone, and so is this worker at any moment
        return self._answers.pop(number)

    def _wait_for(self, arrived: Callable[[], bool]) -> bool:
        """Read, or let another thread read, until `arrived()`; False at the end of the channel."""
        with self._news:
            while not arrived():
                if self._reading:
                    self._news.wait()
                elif not self._read():
                    return False
            return True

    def _read(self) -> bool:
        self._reading = True
        self._news.release()
        try:
            data = self._sock.recv(262144)
        finally:
            self._news.acquire()
            self._reading = False
            self._news.notify_all()
        for frame in self._decoder.feed(data):
            if frame.kind == Kind.ANSWER:
                self._answers[frame.id] = frame
            else:
                self._heard.append(frame)
        return bool(data)


class WorkerClient:
    """What calls of tasks inside a task talk to: the monitor, which owns the store."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.parent: str | None = None  # the job that runs

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        if is_loading():
            return [job.id for job in jobs]  # a plain script would feed itself for ever
        ids: list[str] = []
        for piece in pieces([job._replace(parent=self.parent) for job in jobs]):
            rows, blob = pack_jobs(piece)
            ids += self._line.ask({"request": "enqueue", "jobs": rows}, blob).head["ids"]
        return ids

    def get(self, job_id: str) -> Job | None:
        if is_loading():
            return None
        answer = self._line.ask({"request": "get", "id": job_id})
        found = unpack_jobs(answer.head["jobs"], answer.blob)
        return found[0] if found else None

    def wait(self, job: Job, timeout: float | None) -> Job:
        if is_loading():
            reached()  # it would wait for ever: its execution ends here
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            job = present(self.get(job.id), job)
            left = ASK_PAUSE if deadline is None else deadline - time.monotonic()
            if job.state in FINISHED or left <= 0:
                return job
            time.sleep(min(left, ASK_PAUSE))

    async def await_(self, job: Job) -> Job:
        import asyncio

        if is_loading():
            reached()
        return await asyncio.to_thread(self.wait, job, None)

    def cancel(self, job_id: str, reason: str) -> bool:
        if is_loading():
            return False
        return bool(self._line.ask({"request": "cancel", "id": job_id, "reason": reason}).head["cancelled"])

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        if is_loading():
            return []
        found: list[Job] = []
        more = True
        while more and len(found) < limit:
            before = found[-1].seq if found else None
            request = {"request": "jobs", "limit": limit - len(found), "task": task, "state": state}
            answer = self._line.ask({**request, "before": before})
            found += unpack_jobs(answer.head["jobs"], answer.blob)
            more = answer.head["more"]
        return found

    def progress(self, note: list[Any]) -> None:
        if not is_loading():
            self._line.send(Frame(Kind.ASK, 0, {"request": "progress", "note": note}))


def main(arguments: list[str]) -> None:
    """`worker CHANNEL_FD PARENT_PID`: started by the monitor."""
    die_with_parent(int(arguments[1]))
    fd = fcntl.fcntl(int(arguments[0]), fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(int(arguments[0]))
    for number in (signal.SIGTERM, signal.SIGINT):
        # A handler, not SIG_IGN: programs that a task starts would inherit the latter.
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    os.register_at_fork(after_in_child=_heed)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    line = Line(socket.socket(fileno=fd))
    client = WorkerClient(line)
    engine.become_worker(client)
    while True:
        frame = line.next()
        if frame is None:
            return
        if frame.kind == Kind.RUN:
            client.parent = frame.head["id"]
            line.send(_run(frame))
        elif frame.kind == Kind.LOAD:
            answer = _load(frame.head)
            try:
                line.send(answer)
            except BrokenPipeError:
                return  # newer code has come meanwhile, and another worker loads that
            if "trouble" in answer.head:
                return


def _ignore(number: int, frame: Any) -> None:
    """The monitor decides when a worker ends; a signal to the whole group must not."""


def _heed() -> None:
    """A process that a task forks is ended by signals as any other: `multiprocessing` does so."""
    for number, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is _ignore:
            signal.signal(number, usual)


def _run(frame: Frame) -> Frame:
    head = frame.head
    task = registry.get(head["task"])
    if task is None:  # this worker's app was loaded otherwise than that of the others
        return Frame(Kind.RESULT, frame.id, {"unknown": True})
    outcome = execution.run(task.function, head["codec"], frame.blob)
    execution.flush_output()
    files = app_files()
    if files:
        outcome.head["files"] = files  # the task has imported more of the app
    return Frame(Kind.RESULT, frame.id, outcome.head, outcome.result)


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
