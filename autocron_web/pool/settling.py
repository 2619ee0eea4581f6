"""Outcomes that could not be written together: each by itself, so that one is not the others' trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..jobs import Job, now, unstorable
from .failures import Broken
from .storethread import StoreThread


def settle_alone(store: StoreThread, jobs: Iterable[Job], epoch: int, settled: Callable[[Job], None]) -> None:
    """Write each outcome; where it is what cannot be written, that the job has failed by it."""
    for job in jobs:
        _settle(store, job, epoch, settled)


def _settle(store: StoreThread, job: Job, epoch: int, settled: Callable[[Job], None]) -> None:
    def refused(error: Exception) -> None:
        if job.error_type == "NotStorable":
            raise Broken(f"nothing can be written of the job {job.id}") from error
        _settle(store, unstorable(job, now(), f"{type(error).__name__}: {error}"), epoch, settled)

    store.ask(lambda store: store.settle([job], epoch), lambda number: settled(job), failed=refused)
