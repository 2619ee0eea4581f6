"""What a monitor tells of its pool to whoever may use the store: the answer to a frame of kind INFO."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..jobs import FINISHED, SECOND, Job, now

if TYPE_CHECKING:
    from .crew import Crew
    from .dispatch import Dispatcher
    from .links import Links
    from .member import Worker
    from .storethread import StoreThread
    from .timetable import Timetable

MINUTE = 60  # seconds
MOST = 1000  # entries of a list: a frame has a limit, and so has a reader


class Meter:
    """How many of something came, ever and in the last minute: at most one entry for each second."""

    def __init__(self) -> None:
        self.total = 0
        self._seconds: deque[list[int]] = deque()  # a second of the monotonic clock, and the number in it

    def add(self, moment: float) -> None:
        self.total += 1
        second = int(moment)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])
            self._forget(moment)

    def last_minute(self, moment: float) -> int:
        self._forget(moment)
        return sum(count for _, count in self._seconds)

    def _forget(self, moment: float) -> None:
        while self._seconds and self._seconds[0][0] <= moment - MINUTE:
            self._seconds.popleft()


class Info:
    """Looks into the other rooms, and counts what has ended. Nothing here changes anything."""

    def __init__(
        self,
        epoch: int,
        links: Links,
        crew: Crew,
        dispatch: Dispatcher,
        timetable: Timetable,
        store: StoreThread,
    ) -> None:
        self._epoch = epoch
        self._links = links
        self._crew = crew
        self._dispatch = dispatch
        self._timetable = timetable
        self._store = store
        self._started = now()
        self._meters = {state: Meter() for state in sorted(FINISHED)}

    def count(self, jobs: Iterable[Job]) -> None:
        """These jobs were written to the store; those that have ended count."""
        moment = time.monotonic()
        for job in jobs:
            if job.state in self._meters:
                self._meters[job.state].add(moment)

    def tell(self, ending: str | None) -> dict[str, Any]:
        """The document. `ending` says why the pool ends, if it does. Times are microseconds UTC.

        Only JSON, without arguments, results, output or the environment: that is for those who ask the store.
        """
        moment = time.monotonic()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "epoch": self._epoch,
            "started": self._started,
            "accepting": self._dispatch.accepting,
            "ending": ending,
            "apps": [{"pid": peer.pid, "born": peer.born} for peer in self._links.apps],
            "size": self._crew.size,
            "workers": [self._worker(worker) for worker in self._crew.workers],
            "template": self._crew.template,
            "no_template": self._crew.no_template,
            "pause": self._crew.held,
            "trouble": self._crew.trouble,
            "store_trouble": self._store.trouble or None,
            "finished": {
                state: {"total": meter.total, "last_minute": meter.last_minute(moment)}
                for state, meter in self._meters.items()
            },
            "crons": [
                {
                    "name": entry.cron.task,
                    "schedule": entry.cron.schedule.canonical,
                    "zone": entry.cron.schedule.zone_name,
                    "missed": entry.cron.missed,
                    "catch_up": entry.cron.catch_up,
                    "next": entry.following,
                }
                for entry in self._timetable.entries[:MOST]
            ],
        }

    def _worker(self, worker: Worker) -> dict[str, Any]:
        jobs = self._dispatch.jobs_of(worker)
        job = jobs[0] if jobs else None  # the oldest
        state = (
            "running" if job else "retiring" if worker.retiring else "ready" if worker.ready else "loading"
        )
        return {
            "pid": worker.pid,
            "state": state,
            "retiring": worker.retiring,
            "started": now() - int((time.monotonic() - worker.since) * SECOND),
            "job": job and {"id": job.id, "task": job.task, "since": job.started, "attempt": job.attempt},
            "beside": max(len(jobs) - 1, 0),  # others that it runs at the same time
        }
