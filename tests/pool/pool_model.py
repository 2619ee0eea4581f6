"""The monitor's side of a pool without processes: its loop, crew and dispatcher, and stand-ins for workers.

Everything between them is real: sockets, frames, shelves, notices. What is not: the clock, which only moves
when it is told to; the store, which answers when it is told to; and the worker processes, which do one step
when they are told to, so that each of them can be slow, die or speak late at any point.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from autocron_web import jobs
from autocron_web.jobs import FINISHED, SECOND, Job, cancelled
from autocron_web.pool.crew import Crew
from autocron_web.pool.dispatch import Dispatcher
from autocron_web.pool.limits import Limits
from autocron_web.pool.loop import Loop
from autocron_web.pool.shelf import Done, WorkersShelf
from autocron_web.pool.spawn import Ends
from autocron_web.pool.told import Told, Word
from autocron_web.pool.wire import Decoder, Frame, Kind, encode
from autocron_web.pool.worker import _Notice

TASKS = ["shop.short", "shop.long", "shop.shared"]
BORN = 1_800_000_000  # seconds since 1970 when a model's clock begins
SHORT = 0.0001  # seconds that a short job says it took


class SteppedLoop(Loop):
    """A loop that turns once when it is told to, by a clock that moves when it is told to."""

    moment = 0.0

    def time(self) -> float:  # type: ignore[override]  # a clock of its own is no static one
        return self.moment

    def turn(self) -> None:
        """What is there to be read, and what is due."""
        self.after(0, self.stop)
        self.run()

    def close(self) -> None:
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)


class Rows:
    """What the dispatcher needs of a store. A settlement that the real one would refuse is a failure here."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def enqueue(self, new: list[Job]) -> list[str]:
        self.jobs |= {job.id: job for job in new}
        return [job.id for job in new]

    def get(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def claim(self, owner: str, epoch: int, limit: int, moment: int) -> list[Job]:
        due = [job for job in self._waiting() if job.due <= moment]
        due.sort(key=lambda job: (-job.priority, job.due, job.seq))
        claimed = [job._replace(state="running", attempt=job.attempt + 1) for job in due[:limit]]
        self.enqueue(claimed)
        return claimed

    def settle(self, outcomes: list[Job], epoch: int) -> None:
        for job in outcomes:
            assert self.jobs[job.id].state == "running", (self.jobs[job.id], job)
            self.jobs[job.id] = job

    def next_due(self, moment: int) -> int | None:
        return min((job.due for job in self._waiting()), default=None)

    def cancel(self, job_id: str, moment: int, reason: str) -> bool:
        job = self.jobs[job_id]
        if job.state == "waiting":
            self.jobs[job_id] = cancelled(job, moment, reason)
        return job.state == "waiting"

    def revive(self, tasks: list[str]) -> int:
        lost = [
            job for job in self.jobs.values() if job.state == "waiting" and job.reason and job.task in tasks
        ]
        self.enqueue([job._replace(reason=None) for job in lost])
        return len(lost)

    def _waiting(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == "waiting" and job.reason is None]


class LateThread:
    """The store's thread: an operation is done, and its answer comes, when the test says so."""

    def __init__(self, rows: Rows) -> None:
        self._rows: Any = rows
        self.asked: deque[tuple[Callable[..., Any], Callable[[Any], None] | None]] = deque()
        self.answers: deque[Callable[[], None]] = deque()

    def ask(self, operation: Any, reply: Any = None, *, failed: Any = None, durable: bool = True) -> None:
        self.asked.append((operation, reply))

    def commit(self) -> None:
        if self.asked:
            operation, reply = self.asked.popleft()
            result = operation(self._rows)
            self.answers.append(lambda: reply(result) if reply else None)

    def answer(self) -> None:
        if self.answers:
            self.answers.popleft()()


class StandIn:
    """The worker's side: does what `worker.py` does, one step at a time, and ends jobs as it is told to."""

    def __init__(self, pool: PoolModel, pid: int, inherited: list[int]) -> None:
        self._pool = pool
        self.pid = pid
        channel, shelf, notice = map(os.dup, inherited)
        self._line = socket.socket(fileno=channel)
        self._line.setblocking(False)
        self._shelf = WorkersShelf(shelf)
        self._notice_fd = notice
        self._notice = _Notice(notice)
        self._decoder = Decoder()
        self._heard: deque[Frame] = deque()
        self._answer: Frame | None = None  # what it sends next: it has loaded something, or told of a failure
        self._taken: tuple[Done, Frame] | None = (
            None  # it has taken the second, and not told of the first yet
        )
        self.running: dict[str, Frame] = {}
        self._stopped: set[str] = set()  # jobs that share, and were cancelled
        self.alive = True

    def step(self, how: str = "return") -> None:
        """Do the next thing; how: what becomes of a job, if one runs."""
        if not self.alive:
            return
        self._notice.read()
        if self._answer is not None:
            answer, self._answer = self._answer, None
            self._send(answer)
        elif self._taken is not None:
            (done, following), self._taken = self._taken, None
            self._shelf._send(done)
            self._begin(following, how)
        elif any(frame.head["shared"] for frame in self.running.values()):
            self._share(how)
        elif self.running:
            self._end(next(iter(self.running.values())), how)
        else:
            self._obey(how)

    def die(self) -> None:
        """As by kill -9."""
        if self.alive:
            self.alive = False
            self.running.clear()
            self._line.close()
            self._shelf.close()
            os.close(self._notice_fd)

    def _obey(self, how: str) -> None:
        self._read()
        if not self._heard:
            return
        frame = self._heard.popleft()
        if frame.kind == Kind.LOAD:
            known = {
                "tasks": TASKS, "concurrency": {}, "crons": [], "reports": False, "files": {}, "stops": [],
                "modules": self._pool.modules, "main": None, "missing": {}, "unfit": None,
            }  # fmt: skip
            self._answer = Frame(Kind.READY, 0, known)
        elif frame.kind == Kind.RUN:
            self._begin(frame, how)
            self._heed()

    def _begin(self, frame: Frame, how: str) -> None:
        job_id = frame.head["id"]
        self._notice.job = None if frame.head["shared"] else job_id
        if how == "unknown":
            self._tell(frame, unknown=True)
        elif self._notice.reason() is not None:
            self._tell(frame, ok=False)
        else:
            self.running[job_id] = frame

    def _heed(self) -> None:
        """As `Beside`: what has been read is heeded before the first step of a job."""
        self._read()
        if any(frame.head["shared"] for frame in self.running.values()):
            while any(frame.kind in (Kind.RUN, Kind.CANCEL) for frame in self._heard):
                frame = next(frame for frame in self._heard if frame.kind in (Kind.RUN, Kind.CANCEL))
                self._heard.remove(frame)
                if frame.kind == Kind.RUN:
                    self.running[frame.head["id"]] = frame
                elif frame.head["id"] in self.running and frame.head["id"] not in self._pool.begun_now(self):
                    self._tell(self.running.pop(frame.head["id"]), ok=False)
                else:
                    self._stopped.add(frame.head["id"])
        for frame in self.running.values():
            self._pool.note_begun(self, frame)

    def _share(self, how: str) -> None:
        self._heed()
        if self.running:
            self._end(next(reversed(self.running.values())), how)

    def _end(self, frame: Frame, how: str) -> None:
        if not frame.head["shared"]:
            self._pool.note_begun(self, frame)
        del self.running[frame.head["id"]]
        if how == "fail":
            self._tell(frame, ok=False)
        elif how == "report" and frame.head["last"] and not self._notice.is_given(frame.head["id"]):
            self._tell(frame, ok=False, reporting=True)
            self._answer = Frame(Kind.FREE)
        elif how == "spend":
            self._tell(frame, ok=True, spent="has changed the user of its process")
        elif how == "return" and not frame.head["shared"] and (following := self._shelf.take()):
            self._taken = Done(frame.head["id"], "json", self._seconds(frame), b""), following
        else:
            self._tell(frame, ok=True)

    @staticmethod
    def _seconds(frame: Frame) -> float:
        return 1.0 if frame.head["task"] == "shop.long" else SHORT

    def _tell(self, frame: Frame, **head: Any) -> None:
        error = {"error_type": "E", "error": "e"} if head.get("ok") is False else {}
        facts = {"id": frame.head["id"], "codec": "json", "seconds": self._seconds(frame), "output": None}
        self._send(Frame(Kind.RESULT, 0, {**facts, **error, **head}))

    def _send(self, frame: Frame) -> None:
        try:
            self._line.sendall(encode(frame))
        except OSError:  # the monitor has dismissed it
            self.die()

    def _read(self) -> None:
        try:
            data = self._line.recv(262144)
        except BlockingIOError:
            return
        except ConnectionResetError:  # the monitor has dismissed it, and what it has said was not read
            data = b""
        if data:
            self._heard.extend(self._decoder.feed(data))
        elif not self._heard:
            self.die()


class PoolModel:
    """One pool. `fail` says what was wrong; nothing else may raise."""

    def __init__(self, workers: int = 2, max_jobs: int | None = None) -> None:
        self.loop = SteppedLoop()
        self.failures: list[Exception] = []  # of callbacks of the loop
        self.loop.on_failure = self.failures.append
        self.rows = Rows()
        self.thread: Any = LateThread(self.rows)
        self.said: list[str] = []
        self.modules = ["shop"]
        self.stand_ins: dict[int, StandIn] = {}
        self.begun: dict[tuple[str, int], StandIn] = {}  # by id and attempt
        self.untouchable: set[str] = set()  # a cancel was answered with True before they had begun
        self.cancelled: set[str] = set()  # was answered with True
        self.told_late: list[Job] = []
        self._max_jobs = max_jobs
        self._numbers = iter(range(1, 1 << 30))
        self._asked_to_cancel: deque[str] = deque()
        self._undo = ExitStack()
        self._stand_in_for_processes()
        printer: Any = SimpleNamespace(say=self.said.append, write=lambda stream, data: None)
        self.dispatch = Dispatcher(self.loop, self.thread, "local", 1)
        self.dispatch.on_failure = self.told_late.append
        self.told = Told()
        self.crew = Crew(self.loop, self.dispatch, printer, self.told)
        self.crew.on_ready = lambda head: self.learn()
        self.workers = workers
        self._born = 0
        self.load_newer_code()

    def _stand_in_for_processes(self) -> None:
        fake_os = SimpleNamespace(**{**vars(os), "kill": lambda pid, number: None})
        put = self._undo.enter_context
        for module in ("crew", "member", "ears"):
            put(patch(f"autocron_web.pool.{module}.kill_group", self._kill))
        put(patch("autocron_web.pool.member.os", fake_os))
        put(patch("autocron_web.pool.crew.start_process", self._spawn))
        put(patch.object(jobs, "clock", lambda: int((BORN + self.loop.moment) * SECOND)))

    def _spawn(self, load: dict[str, Any], ends: Ends) -> int:
        pid = 1_000_000_000 + next(self._numbers)
        self.stand_ins[pid] = StandIn(self, pid, ends.inherited)
        ends.close_theirs()
        return pid

    def _kill(self, pid: int) -> None:
        if pid in self.stand_ins:
            self.stand_ins[pid].die()

    def close(self) -> None:
        self._undo.close()
        for stand_in in self.stand_ins.values():
            stand_in.die()
        for worker in self.crew._workers.values():
            worker.close()
        self.loop.close()

    def learn(self) -> None:
        """A worker has loaded the app, and knows all tasks."""
        self.dispatch.learn(TASKS, {"shop.shared": 3})

    # -- what may happen ------------------------------------------------------------------------------

    def enqueue(self, task: str, count: int = 1, *, priority: int = 0, **meta: Any) -> list[str]:
        """An app process stores jobs, and says so."""
        moment = jobs.now()
        new = []
        for _ in range(count):
            number = next(self._numbers)
            new.append(Job(f"job-{number}", task, moment, moment, priority=priority, meta=meta, seq=number))
        self.rows.enqueue(new)
        self.dispatch.wake()
        return [job.id for job in new]

    def load_newer_code(self) -> None:
        """A deploy: all workers are replaced."""
        self._born += 1
        load = {"python": sys.executable, "path": [str(self._born)], "argv": [], "cwd": "/", "main": None}
        load |= {"loader": None, "database": "", "modules": list(self.modules), "env": {}, "options": []}
        self.told.join(self, Word(self._born, "", load, self.workers, Limits(max_jobs=self._max_jobs)))
        self.crew.follow()

    def add_module(self) -> None:
        """The app has imported one more module with tasks."""
        self.modules.append(f"late{len(self.modules)}")
        self.told.add_modules(self, self.modules)
        self.crew.add_modules()

    def reap(self) -> None:
        """SIGCHLD."""
        for pid, worker in list(self.crew._workers.items()):
            if not self.stand_ins[pid].alive:
                del self.crew._workers[pid]
                self.crew._buried(worker, "was killed by SIGKILL")
                del self.stand_ins[pid]

    def cancel_in_app(self, job_id: str) -> None:
        """`Result.cancel()` in an app process: at once if the job waits, by a message if it runs."""
        if self.rows.cancel(job_id, jobs.now(), "by the app"):
            self._answer_cancel(job_id, True)
        elif self.rows.jobs[job_id].state == "running":
            self._asked_to_cancel.append(job_id)

    def deliver_cancel(self) -> None:
        """The message has come: as `Monitor._cancel`."""
        if self._asked_to_cancel:
            job_id = self._asked_to_cancel.popleft()
            if self.dispatch.cancel(job_id, "by the app"):
                self._answer_cancel(job_id, True)
            else:
                self.thread.ask(lambda store: store.cancel(job_id, jobs.now(), "by the app"))

    def cancel_in_task(self, job_id: str) -> None:
        """The same in a task: as `Requests._cancel`."""

        def done(was_waiting: bool) -> None:
            self._answer_cancel(job_id, was_waiting or self.dispatch.cancel(job_id, "by a task"))

        self.thread.ask(lambda store: store.cancel(job_id, jobs.now(), "by a task"), done)

    def _answer_cancel(self, job_id: str, answer: bool) -> None:
        if answer:
            self.cancelled.add(job_id)
            if not any(job_id in stand_in.running for stand_in in self.stand_ins.values()):
                self.untouchable.add(job_id)

    # -- what must hold --------------------------------------------------------------------------------

    def begun_now(self, stand_in: StandIn) -> set[str]:
        return {job_id for (job_id, _), by in self.begun.items() if by is stand_in}

    def note_begun(self, stand_in: StandIn, frame: Frame) -> None:
        """The first step of the job is done there."""
        job_id, run = frame.head["id"], (frame.head["id"], frame.head["attempt"])
        before = self.begun.setdefault(run, stand_in)
        assert before is stand_in, f"{run} runs twice"
        assert job_id not in self.untouchable, f"{job_id} begins although it was cancelled before"

    def check(self) -> None:
        """What holds at any moment."""
        hands = self.dispatch._hands
        ready = [job.id for job in hands.ready]
        outcomes = [job.id for job in [*self.dispatch._outcomes, *getattr(self.dispatch, "_written", [])]]
        places = ready + list(hands.running) + outcomes
        assert len(places) == len(set(places)), f"a job is in two places: {sorted(places)}"
        assert all(job_id in worker.runs for job_id, (_, worker) in hands.running.items())
        in_workers = [job_id for worker in self.crew._workers.values() for job_id in worker.runs]
        assert sorted(in_workers) == sorted(hands.running), "who has which job is not known"
        idle = [worker for worker in self.crew.workers if worker.ready and not (worker.runs or worker.loads)]
        idle = [worker for worker in idle if not (worker.retiring or worker.reporting)]
        assert self.dispatch._hands.free.idle >= len(idle), "a worker is lost"
        for stand_in in self.stand_ins.values():
            for job_id in stand_in.running if stand_in.alive else ():
                assert hands.running[job_id][1].pid == stand_in.pid, f"{job_id} is believed elsewhere"
        assert not [text for text in self.said if "is ended" in text], self.said
        assert not self.failures, self.failures

    def settle(self) -> None:
        """Let everything go on until nothing happens any more. Then all is done, and all workers are free."""
        self.dispatch.accept(True)
        self._let_all_go_on()
        self.learn()  # the tasks that a worker has said not to know
        for _ in range(2):
            self._let_all_go_on()
            self.enqueue("shop.short")
        self._let_all_go_on()
        unfinished = [job for job in self.rows.jobs.values() if job.state not in FINISHED]
        assert not unfinished, f"stalled: {[(job.id, job.state, job.reason) for job in unfinished]}"
        assert not self.dispatch.busy
        assert self.dispatch._hands.free.idle == self.crew.size, "a worker is lost"
        ended = {job_id: self.rows.jobs[job_id].state for job_id in self.cancelled}
        assert set(ended.values()) <= {"cancelled"}, f"cancel() has said True: {ended}"

    def _let_all_go_on(self) -> None:
        for number in range(600):
            while self.thread.asked or self.thread.answers:
                self.thread.commit()
                self.thread.answer()
            self.loop.turn()
            self.deliver_cancel()
            self.reap()
            for stand_in in list(self.stand_ins.values()):
                stand_in.step()
            self.check()
            self.loop.moment += 0.02 if number < 400 else 2.0
            if number > 20 and self._is_at_rest():
                return

    def _is_at_rest(self) -> bool:
        finished = all(job.state in FINISHED for job in self.rows.jobs.values())
        idle = self.dispatch._hands.free.idle == self.crew.size == len(self.crew.workers)
        return finished and idle and not self.dispatch.busy
