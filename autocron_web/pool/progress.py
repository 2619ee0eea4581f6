"""How far running jobs have got, on its way into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..jobs import Job
from ..store import Store
from .loop import Loop
from .storethread import StoreThread

PAUSE = 0.1  # seconds between two writes


class Progress:
    """Collects what tasks tell, and writes the latest of each job at most every `PAUSE` seconds."""

    def __init__(
        self, loop: Loop, store: StoreThread, epoch: int, written: Callable[[Iterable[Job]], None]
    ) -> None:
        self._loop = loop
        self._store = store
        self._epoch = epoch
        self._written = written
        self._jobs: dict[str, Job] = {}

    def note(self, job: Job) -> None:
        """The job, with its progress in `meta`."""
        if not self._jobs:
            self._loop.after(PAUSE, self._save)
        self._jobs[job.id] = job

    def forget(self, job_id: str) -> None:
        """The job has ended: its outcome says it all."""
        self._jobs.pop(job_id, None)

    def _save(self) -> None:
        jobs, self._jobs, epoch = list(self._jobs.values()), {}, self._epoch

        def save(store: Store) -> None:
            for job in jobs:
                store.annotate(job.id, epoch, job.meta)

        self._store.ask(save, lambda _: self._written(jobs), durable=False)
