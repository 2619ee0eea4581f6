"""After how much a worker is replaced, and what is said where that leaves it no room."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..process import memory_of
from .output import Printer
from .setbacks import Setbacks

if TYPE_CHECKING:
    from .member import Worker

MIB = 1 << 20  # bytes
GROWTH = 16 * MIB  # bytes by which a worker may grow after it has loaded the app, whatever its limit
FEW = 10  # jobs: a worker that is replaced after no more has hardly used what it has loaded


class Limits(NamedTuple):
    """After how much a worker is replaced; None: never."""

    max_jobs: int | None = None
    max_memory: int | None = None  # MiB

    def is_used_up(self, worker: Worker) -> bool:
        """Whether another worker is to take its place: its job has just ended."""
        if self.max_jobs is not None and worker.jobs >= self.max_jobs:
            return True
        if self.max_memory is None:
            return False
        return memory_of(worker.pid) > max(self.max_memory * MIB, self._least(worker))

    def too_low(self, worker: Worker) -> str | None:
        """A sentence where `max_memory` leaves no room beside the app: the worker may grow all the same."""
        least = self._least(worker)
        if self.max_memory is None or self.max_memory * MIB >= least:
            return None
        return (
            f"max_memory is {self.max_memory} MiB, and a worker that has loaded the app takes"
            f" {worker.loaded // MIB} MiB: it is replaced when it takes more than {least // MIB} MiB."
            " Set max_memory higher"
        )

    @staticmethod
    def _least(worker: Worker) -> int:
        """The bytes up to which any worker may grow: its first jobs need some, as would the next one's."""
        return worker.loaded + max(GROWTH, worker.loaded // 4)


class Memory:
    """Says once, for the code that rules, where `max_memory` is lower than what the app or its tasks take."""

    def __init__(self, printer: Printer, setbacks: Setbacks) -> None:
        self._printer = printer
        self._setbacks = setbacks
        self._told = False  # of the tasks

    def look_at(self, workers: Iterable[Worker]) -> None:
        """A worker has loaded the app, or there is another limit."""
        ready = [worker for worker in workers if worker.ready]
        if ready:
            sentences = (worker.limits.too_low(worker) for worker in ready)
            self._setbacks.lasts("memory", next(filter(None, sentences), None))

    def used_up(self, worker: Worker) -> None:
        """The worker is to be replaced."""
        taken, limit = memory_of(worker.pid) // MIB, worker.limits.max_memory
        if self._told or limit is None or taken <= limit or worker.jobs > FEW:
            return
        self._told = True
        self._printer.say(
            f"a worker takes {taken} MiB after {worker.jobs} jobs, and max_memory is {limit} MiB:"
            " it is replaced. If that goes on, set max_memory higher"
        )
