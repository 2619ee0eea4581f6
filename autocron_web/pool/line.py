"""How a worker talks to its monitor: frames in order, and what a running task asks for."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from ..client import present
from ..errors import AllWorkersWait, StoreError
from ..jobs import FINISHED, Job
from ..process import identity
from .mainmodule import is_loading, reached
from .wire import Decoder, Frame, Kind, encode, pack_jobs, pieces, unpack_jobs

ASK_PAUSE = 0.1  # seconds between looks at a job that a task waits for
PATIENCE = 1.0  # seconds that all workers may wait for jobs that cannot begin
MORE_PATIENCE = 10.0  # the same, where a thread of the task waits, and others may go on
CONNECT = 2.0  # seconds that a monitor may take to accept a connection

#: The job to which this code belongs, where several run beside each other.
current_job: ContextVar[str | None] = ContextVar("current_job", default=None)


class Line:
    """One end of a connection to the monitor: frames in order, and requests with answers, from any thread.

    A task may leave threads behind that go on asking while the worker waits for its next job. So
    whoever waits for a frame reads for all, and tells the others.
    """

    def __init__(self, sock: socket.socket, *, is_workers: bool = True) -> None:
        self.sock = sock
        self._is_workers = is_workers  # not that of a process which a task has forked
        self.fd, self._identity = sock.fileno(), identity(sock.fileno())
        self.pid = os.getpid()
        self._decoder = Decoder()
        self._heard: deque[Frame] = deque()
        self._answers: dict[int, Frame] = {}
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        # Not an RLock: eventlet puts green ones in the place of those, this one while it is held.
        self._news = threading.Condition(threading.Lock())
        self._reading = False  # a thread is reading for all
        self.on_heard: Callable[[], object] | None = (
            None  # frames have come that are no answers; in any thread
        )

    def send(self, frame: Frame) -> None:
        if identity(self.fd) != self._identity:
            sys.stderr.write("the task has closed the worker's connection to its pool, so the worker ends\n")
            os._exit(1)
        with self._writing:
            self.sock.sendall(encode(frame))

    def next(self) -> Frame | None:
        """The next thing to do, or None at the end of the channel."""
        return self._heard.popleft() if self._wait_for(lambda: bool(self._heard)) else None

    def poll(self) -> bool:
        """Read what is there, without waiting; False at the end of the channel."""
        with self._news:
            try:
                return self._reading or self._read(socket.MSG_DONTWAIT)
            except BlockingIOError:  # another thread was faster
                return True

    def take(self, *kinds: int) -> list[Frame]:
        """The frames of these kinds that have been read, in their order."""
        with self._news:
            taken = [frame for frame in self._heard if frame.kind in kinds]
            self._heard = deque(frame for frame in self._heard if frame.kind not in kinds)
            return taken

    def ask(self, head: dict[str, Any], blob: bytes = b"") -> Frame:
        """Send a request of the running task and wait for its answer."""
        number = next(self._numbers)
        self.send(Frame(Kind.ASK, number, head, blob))
        if not self._wait_for(lambda: number in self._answers):
            if self._is_workers:
                os._exit(1)  # the monitor is gone, and so is this worker at any moment
            raise StoreError("the pool of this process has ended: nothing can be asked of it any more")
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

    def _read(self, flags: int = 0) -> bool:
        self._reading = True
        self._news.release()
        try:
            data = self.sock.recv(262144, flags)
        finally:
            self._news.acquire()
            self._reading = False
            self._news.notify_all()
        for frame in self._decoder.feed(data):
            if frame.kind == Kind.ANSWER:
                self._answers[frame.id] = frame
            else:
                self._heard.append(frame)
        if self._heard and self.on_heard is not None:
            self.on_heard()
        return bool(data)


class WorkerClient:
    """What calls of tasks inside a task talk to: the monitor, which owns the store."""

    def __init__(self, line: Line) -> None:
        self._lines = [line]  # the last is this process's; the others are of those that it was forked from
        self.database = ""
        self._unstored: dict[str, Job] = {}  # calls of a main module that is loaded: they wait for ever
        self.alone: str | None = None  # the job that runs, if it does so alone

    @property
    def parent(self) -> str | None:
        """The job that calls."""
        return current_job.get() or self.alone

    def _line(self) -> Line:
        """The line of this process: one that a task has forked gets its own, and touches no other one."""
        line = self._lines[-1]
        if line.pid != os.getpid():
            from ..launch import connect

            try:
                line = Line(connect(self.database, CONNECT), is_workers=False)
            except OSError as error:
                raise StoreError(f"the pool of this process cannot be reached ({error.strerror})") from None
            self._lines.append(line)
        return line

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        if is_loading():
            self._unstored.update((job.id, job) for job in jobs)
            return [job.id for job in jobs]  # a plain script would feed itself for ever
        ids: list[str] = []
        parent = self.parent
        for piece in pieces([job._replace(parent=parent) for job in jobs]):
            rows, blob = pack_jobs(piece)
            ids += self._line().ask({"request": "enqueue", "jobs": rows}, blob).head["ids"]
        return ids

    def get(self, job_id: str) -> Job | None:
        return self._unstored.get(job_id) if is_loading() else self._look(job_id, {})

    def _look(self, job_id: str, more: dict[str, Any]) -> Job | None:
        answer = self._line().ask({"request": "get", "id": job_id, **more})
        found = unpack_jobs(answer.head["jobs"], answer.blob)
        if "stuck" in answer.head:
            workers = answer.head["stuck"]
            raise AllWorkersWait(
                f"{found[0].task} (job {job_id}) cannot begin: each of the {workers} workers runs a task"
                " that waits for a job. Start more workers, or let the task end and another one go on"
            )
        return found[0] if found else None

    def wait(self, job: Job, timeout: float | None) -> Job:
        if current_job.get() is not None:
            import asyncio

            if asyncio._get_running_loop() is not None:
                raise RuntimeError("get() would hold up all jobs of this worker: await the Result instead")
        return self._wait(job, timeout, threading.current_thread() is threading.main_thread())

    def _wait(self, job: Job, timeout: float | None, alone: bool) -> Job:
        """alone: nothing else goes on in the task meanwhile, as far as can be told."""
        if is_loading():
            reached()  # it would wait for ever: its execution ends here
        deadline = None if timeout is None else time.monotonic() + timeout
        patience = PATIENCE if alone else MORE_PATIENCE
        while True:
            job = present(self._look(job.id, {"patience": patience, "by": self.parent}), job)
            left = ASK_PAUSE if deadline is None else deadline - time.monotonic()
            if job.state in FINISHED or left <= 0:
                return job
            time.sleep(min(left, ASK_PAUSE))

    async def await_(self, job: Job) -> Job:
        import asyncio

        if is_loading():
            reached()
        return await asyncio.to_thread(self._wait, job, None, True)

    def cancel(self, job_id: str, reason: str) -> bool:
        if is_loading():
            return False
        return bool(self._line().ask({"request": "cancel", "id": job_id, "reason": reason}).head["cancelled"])

    def jobs(self, limit: int, task: str | None, state: str | None) -> list[Job]:
        if is_loading():
            return []
        found: list[Job] = []
        more = True
        while more and len(found) < limit:
            before = found[-1].seq if found else None
            request = {"request": "jobs", "limit": limit - len(found), "task": task, "state": state}
            answer = self._line().ask({**request, "before": before})
            found += unpack_jobs(answer.head["jobs"], answer.blob)
            more = answer.head["more"]
        return found

    def progress(self, note: list[Any]) -> None:
        if not is_loading():
            request = {"request": "progress", "id": self.parent, "note": note}
            self._line().send(Frame(Kind.ASK, 0, request))
