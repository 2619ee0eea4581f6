"""The jobs that one worker has in hand, and how far each of them is. Pure: it asks nobody.

    handed over on the line ──────────────► BEGUN ──► ENDED
                                             ▲  │       ▲
    laid on the shelf ──► PREFETCHED ────────┘  └► STOPPING (cancelled, or timed out)
                               └──► TAKEN_BACK

A worker takes the next job from its shelf by itself, but only when the one before has just returned. It says
how that one has ended on the shelf then, so this says that the next one has begun. Whatever it tells on its
line, it takes nothing after that: it waits for a job that is handed over to it. So a job that has begun never
lies on the shelf, and what has been taken back from there has not begun and never will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from ..jobs import Job
from .loop import Timer
from .wire import WireError

Outcome = Callable[[Job, int], Job]

NEWS = 1.0  # seconds after which a task that does not ask again for a job has ceased to wait for it


class State(Enum):
    """How far a job is that a worker has in hand."""

    PREFETCHED = "prefetched"  # it lies on the shelf, as far as is known
    BEGUN = "begun"  # only the worker can end it now; its timeout counts
    STOPPING = "being stopped"  # by the monitor, whose verdict counts, whatever the worker still says
    TAKEN_BACK = "taken back"
    ENDED = "ended"

    def __init__(self, word: str) -> None:
        self.successors: tuple[State, ...] = ()  # not in a dictionary: the hash of an enum takes its time


State.PREFETCHED.successors = State.BEGUN, State.TAKEN_BACK
State.BEGUN.successors = State.STOPPING, State.ENDED
State.STOPPING.successors = (State.ENDED,)


class ImpossibleError(WireError):
    """Nothing that the other side may do leads there."""


class Run:
    """A job in a worker: its state, its clock, what it waits for, and what becomes of it if it is stopped."""

    def __init__(self, timeout: float | None, concurrency: int = 1, *, is_short: bool = True) -> None:
        self.state = State.PREFETCHED
        self.timeout = timeout  # seconds, from its begin
        self.concurrency = concurrency  # how many may run at once while it does
        self.is_short = is_short  # others may lie ready behind it
        self.shared = concurrency > 1  # it runs on the event loop, beside others
        self.verdict: Outcome | None = None  # of a job that is being stopped
        self.clock: Timer | None = None  # the timeout, then the grace
        self._waits_since: float | None = None  # its task waits for a job that is due, or runs
        self._waits_until = 0.0  # if it does not say so again
        self._patience = 0.0

    def move(self, state: State) -> None:
        """It is further now. No clock of an earlier state goes on."""
        if state not in self.state.successors:
            raise ImpossibleError(f"a job that is {self.state.value} cannot be {state.value}")
        self.state = state
        if self.clock is not None:
            self.stop_clock()

    def stop_clock(self) -> None:
        if self.clock is not None:
            self.clock.cancel()

    def waits(self, moment: float, patience: float) -> None:
        """Its task asks again for a job that has not ended."""
        if self._waits_since is None or moment > self._waits_until:
            self._waits_since = moment
        self._waits_until, self._patience = moment + NEWS, patience

    def stops_waiting(self) -> None:
        self._waits_since = None

    def is_stuck(self, moment: float) -> bool:
        """Whether its task has waited so for longer than it can have patience."""
        if self._waits_since is None or moment > self._waits_until:
            return False
        return moment - self._waits_since >= self._patience


class InFlight:
    """The jobs of one worker by their ids, in their order: those that have begun come first.

    One runs, or several that share; behind one that runs alone others may be prefetched. What cannot be is
    refused with `ImpossibleError`: the worker, or whatever speaks in its name, has told an untruth.
    """

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self.prefetched = 0  # how many lie on the shelf, as far as is known

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._runs

    def __getitem__(self, job_id: str) -> Run:
        return self._runs[job_id]

    def get(self, job_id: str) -> Run | None:
        return self._runs.get(job_id)

    @property
    def begun(self) -> dict[str, Run]:
        """Those that are the worker's alone."""
        if not self.prefetched:
            return dict(self._runs)
        return {job_id: run for job_id, run in self._runs.items() if run.state is not State.PREFETCHED}

    @property
    def first(self) -> Run | None:
        return next(iter(self._runs.values()), None)

    @property
    def behind(self) -> int:
        """How many more it may run without another word on its line, as one after the other does."""
        return 0 if self.is_shared or not self._runs else len(self._runs) - 1

    @property
    def is_shared(self) -> bool:
        """Whether they run beside each other."""
        first = self.first
        return first is not None and first.shared

    @property
    def is_stopping(self) -> bool:
        """Whether one of them is being stopped."""
        return any(run.state is State.STOPPING for run in self._runs.values())

    def hand_over(self, job_id: str, run: Run) -> None:
        """The worker gets the job on its line."""
        if job_id in self._runs or (self._runs and not (run.shared and self.is_shared)):
            raise ImpossibleError(f"the job {job_id} is handed to a worker that is not free for it")
        run.move(State.BEGUN)
        self._runs[job_id] = run

    def prefetch(self, job_id: str, run: Run) -> None:
        """The job lies on the worker's shelf, behind one that runs."""
        if job_id in self._runs or not self._runs or run.shared or self.is_shared:
            raise ImpossibleError(f"the job {job_id} is laid ready for a worker that runs none alone")
        self._runs[job_id] = run
        self.prefetched += 1

    def take_back(self, job_ids: Iterable[str]) -> list[str]:
        """These lay on the shelf, and do not any more. The answer: which the worker had taken by itself."""
        for job_id in job_ids:
            self._runs[job_id].move(State.TAKEN_BACK)
            del self._runs[job_id]
            self.prefetched -= 1
        taken = [job_id for job_id, run in self._runs.items() if run.state is State.PREFETCHED]
        for job_id in taken:
            self._begin(job_id)
        return taken

    def begin_next(self, job_id: str) -> None:
        """The worker has nothing else to do, and is handed what lay first on its shelf."""
        if next(iter(self._runs)) != job_id:
            raise ImpossibleError(f"the job {job_id} does not lie first on the worker's shelf")
        self._begin(job_id)

    def end_on_line(self, job_id: str) -> Run:
        """The worker says on its line how the job has ended, and waits if that ran alone."""
        run = self._runs[job_id]
        if not run.shared and len(self._runs) - self.prefetched != 1:
            raise ImpossibleError(f"a worker says that the job {job_id} has ended before those before it")
        return self.abandon(job_id)

    def end_on_shelf(self, job_id: str) -> tuple[Run, str | None]:
        """The worker says so on the shelf, and has taken the next one: that, if it was not known before."""
        runs = iter(self._runs)
        if next(runs, None) != job_id or (following := next(runs, None)) is None:
            raise ImpossibleError(f"a worker says that the job {job_id} has ended, and it runs another one")
        run = self.abandon(job_id)
        if self._runs[following].state is not State.PREFETCHED:
            return run, None
        self._begin(following)
        return run, following

    def abandon(self, job_id: str) -> Run:
        """The worker has ended, if not the job."""
        run = self._runs[job_id]
        run.move(State.ENDED)
        del self._runs[job_id]
        return run

    def _begin(self, job_id: str) -> None:
        self._runs[job_id].move(State.BEGUN)
        self.prefetched -= 1
