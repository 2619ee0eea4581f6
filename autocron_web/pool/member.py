"""One worker process, as the monitor sees it: what it is told, and how it and its tasks are ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..jobs import Job, failed, interrupted
from ..process import file_mark, kill_group
from .inflight import ImpossibleError, InFlight, Outcome, Run, State
from .loop import Loop, Timer
from .output import Output
from .shelf import MOST, Shelf
from .wire import Channel, Frame, Kind

if TYPE_CHECKING:
    from .told import Word

REPORT = 30.0  # seconds that the app's functions may take to report a failed job
GRACE = 5.0  # seconds that a task may take to clean up when its job is cancelled or runs too long
REASON = 300  # characters of the reason in a notice, which is to be one write (pipe(7), PIPE_BUF)


class Worker:
    """One worker process, as the monitor sees it."""

    def __init__(
        self, loop: Loop, pid: int, channel: Channel, shelf: Shelf, notice: int, output: Output, word: Word
    ) -> None:
        self._loop = loop
        self.word = word  # how it was told to load the app
        self.pid = pid
        self.channel = channel
        self.shelf = shelf
        self._notice = notice  # a pipe by which the worker knows that a SIGTERM comes from here
        self.output = output
        self.hear: Callable[[], bool] = lambda: False
        self.leave: Callable[[], None] = lambda: None  # it takes no more jobs: another one may
        self.ready = False
        self.is_template = False  # it has loaded the app, and only forks workers
        self.loads = 0  # that it was told and has not answered yet
        self.retiring = False
        self.leaving = False  # it goes when another one has come
        self.since = loop.time()
        self.proven = False  # it does not end as soon as it has begun
        self.runs = InFlight()
        self.limits = word.limits
        self.jobs = 0  # that it was given
        self.loaded = 0  # bytes of memory that it had in use when it had loaded the app
        self.moved = loop.time()  # when something began or ended
        self.reporting = False  # its job has failed for good, and the app's functions are being told
        self.untold: Job | None = None  # this one: of which another worker tells if this one dies now
        self.outcome: Outcome | None = None  # set when the monitor itself ends the worker
        self.modules: frozenset[str] = frozenset()  # that have registered tasks, or were to be imported
        self.files: dict[str, list[int]] = {}  # the app's files that it has loaded, as they were then
        self.main: dict[str, str] | None = None  # the main module that it was told of
        self._clock: Timer | None = None  # for the report
        self._waits_to_write = False

    @property
    def is_available(self) -> bool:
        """Whether a job that it gets begins at once: nothing else is to be done before."""
        return self.ready and not (self.retiring or self.loads or self.reporting)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job."""
        return not self.runs and self.is_available

    @property
    def room(self) -> int:
        """How many more jobs it can run beside those that it runs: none while one of them is being ended."""
        if not self.runs.is_shared or not self.is_available or self.runs.is_stopping:
            return 0
        return min(self.runs[job_id].concurrency for job_id in self.runs) - len(self.runs)

    def has_room(self, concurrency: int) -> bool:
        """Whether a job can begin beside the others whose task allows so many at once."""
        return len(self.runs) < concurrency and self.room > 0

    @property
    def shelf_room(self) -> int:
        """How many more short jobs may lie ready for it: none unless it runs a short one."""
        first = self.runs.first
        if first is None or not first.is_short or first.shared or first.verdict:
            return 0
        if not self.is_staying or not self.is_available:
            return 0
        most = MOST if self.limits.max_jobs is None else self.limits.max_jobs - self.jobs
        return min(MOST - len(self.runs), most)

    @property
    def rests_for(self) -> float:
        """The seconds since something has begun or ended in it."""
        return self._loop.time() - self.moved

    def run(self, job: Job, concurrency: int = 1, *, is_short: bool = False) -> None:
        """Hand over a job, with the next `flush`. If the worker is dying at this moment, its end will tell.

        concurrency: how many may run at once while it does. is_short: others may lie ready behind it.
        """
        run = Run(job.meta.get("timeout"), concurrency, is_short=is_short)
        self.runs.hand_over(job.id, run)
        self.channel.add(_run_frame(job, run))
        self.jobs += 1
        self._begun(job.id)

    def put(self, job: Job) -> bool:
        """Lay a short job on the shelf, for when the others have ended; False if that has no room."""
        room = self.shelf_room > 0 and self.shelf.put(job, _is_last(job))
        if room:
            self.runs.prefetch(job.id, Run(job.meta.get("timeout")))
            self.jobs += 1
        return room

    def begin_next(self) -> None:
        """It waits: hand over what lies first on its shelf. Raises `ImpossibleError` if that has gone."""
        frame = self.shelf.take_back_first()
        if frame is None:
            raise ImpossibleError("the jobs that lay ready for a worker are gone from its shelf")
        job_id = frame.head["id"]
        self.runs.begin_next(job_id)
        self._begun(job_id)
        self.send(frame)

    def take_back(self) -> list[str]:
        """The jobs that lie on the shelf, in their order: they are not its own any more."""
        if not self.runs.prefetched:
            return []
        jobs = self.shelf.clear()
        for job_id in self.runs.take_back(jobs):
            self._begun(job_id)
        self.jobs -= len(jobs)
        return jobs

    def ended(self, job_id: str) -> Run:
        """It has told on its line how the job has ended."""
        self.moved = self._loop.time()
        return self.runs.end_on_line(job_id)

    def ended_on_shelf(self, job_id: str) -> Run:
        """It has told so on the shelf, and begun the next one."""
        run, following = self.runs.end_on_shelf(job_id)
        if following is not None:
            self._begun(following)
        return run

    def _begun(self, job_id: str) -> None:
        self.moved = self._loop.time()
        run = self.runs[job_id]
        if run.timeout is not None:
            run.clock = self._loop.after(run.timeout, lambda: self._time_out(job_id, run.timeout))

    def _time_out(self, job_id: str, timeout: float | None) -> None:
        reason = f"the job ran longer than its timeout of {timeout:g} s and was ended"
        self.stop(job_id, reason, lambda job, moment: failed(job, moment, "TimeoutError", reason))

    def stop(self, job_id: str, reason: str, verdict: Outcome) -> None:
        """End the running task: it has `GRACE` seconds to clean up, then it is killed with its worker.

        `verdict` says what becomes of the job, however the task takes it. Jobs beside it go on, or wait
        again if the worker must be killed.
        """
        run = self.runs[job_id]
        run.verdict = verdict  # the last one counts: a job that runs too long can still be cancelled
        if run.state is State.STOPPING:
            return
        run.move(State.STOPPING)
        if self.outcome is not None:
            return  # it is killed already
        run.clock = self._loop.after(GRACE, lambda: self.kill(interrupted))
        if run.shared:
            self.send(Frame(Kind.CANCEL, 0, {"id": job_id, "reason": reason}))
            return
        self.retiring = True
        with suppress(OSError):  # it is dying at this moment
            os.write(self._notice, json.dumps([job_id, reason[:REASON]]).encode() + b"\n")
            os.kill(self.pid, signal.SIGTERM)  # not to the group: what the task has started is its own to end
        self.leave()

    def report(self, job: Job | None) -> None:
        """Its job has failed for good, and the app's functions are told: that must not take for ever.

        job: of which another worker is to tell if this one dies meanwhile.
        """
        self.reporting, self.untold = True, job
        self._clock = self._loop.after(REPORT, self._end_report)

    def _end_report(self) -> None:
        self.untold = None  # they had their time
        self.kill(interrupted)

    def reported(self) -> None:
        """They have been told."""
        self.reporting, self.untold = False, None
        if self._clock is not None:
            self._clock.cancel()

    def waits(self, run: Run, patience: float) -> None:
        """The task of this run asks again for a job that has not ended."""
        run.waits(self._loop.time(), patience)

    @property
    def is_stuck(self) -> bool:
        """Whether all that it runs has waited for longer than it can have patience."""
        moment, begun = self._loop.time(), self.runs.begun.values()
        return bool(begun) and all(run.is_stuck(moment) for run in begun)

    @property
    def is_staying(self) -> bool:
        """Whether it counts as one of those that there are to be."""
        return not self.retiring and not self.leaving and not self.is_template

    def load(self, head: dict[str, Any]) -> None:
        """Let it load the app, or more modules of it."""
        self.loads += 1
        self.send(Frame(Kind.LOAD, 0, head))

    def kill(self, outcome: Outcome) -> None:
        """Kill the worker and what it has started; `outcome` says what becomes of its jobs.

        Should a job's result come first, that counts.
        """
        self.retiring = True  # it must not get another job
        if self.outcome is None:
            self.outcome = outcome
        kill_group(self.pid)

    def close(self) -> None:
        """The process has ended: let go of what led to it."""
        self._loop.unwatch(self.channel)
        self.channel.close()
        self.shelf.close()
        os.close(self._notice)
        self.output.close()

    def send(self, frame: Frame) -> None:
        """Tell it something."""
        self.channel.add(frame)
        self.flush()

    def flush(self) -> None:
        """Write what it is told, now or when it has read what it was told before."""
        waited = self._waits_to_write
        try:
            self.channel.flush()
        except OSError:
            return  # its death is on its way to the monitor
        self._waits_to_write = bool(self.channel.backlog)
        if waited != self._waits_to_write:
            self._loop.watch(self.channel, self.hear, self.flush if self._waits_to_write else None)

    def is_stale(self) -> bool:
        """Whether a file of the app has changed since the worker loaded it, or is gone."""
        return any(file_mark(path) != mark for path, mark in self.files.items())

    def edited_files(self) -> dict[str, list[int]]:
        """The files of the app that have changed since the worker loaded them, as they are now.

        Not those that are gone: a deploy deletes an older release, which could not be loaded again.
        """
        now = {path: file_mark(path) for path in self.files}
        return {path: mark for path, mark in now.items() if mark is not None and mark != self.files[path]}

    def stop_clocks(self) -> None:
        """It has ended by itself, and nothing more is to be done to it."""
        for run in self.runs.begun.values():
            run.stop_clock()
        if self._clock is not None:
            self._clock.cancel()


def _run_frame(job: Job, run: Run) -> Frame:
    head = {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "created": job.created,
        "codec": job.codec,
        "last": _is_last(job),
        "shared": run.shared,
    }
    return Frame(Kind.RUN, 0, head, job.payload)


def _is_last(job: Job) -> bool:
    """Whether no try follows this one if it fails."""
    return bool(job.meta.get("failures", 0) >= job.meta.get("retries", 0))
