"""Where jobs live. `Store` is the whole protocol; one contract suite runs over every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ..jobs import Job


class Recovery(NamedTuple):
    """What became of the jobs that an earlier monitor left in the state `running`."""

    waiting: int
    failed: int


class CronRow(NamedTuple):
    """What the store knows of a cron. Times in microseconds."""

    name: str
    schedule: str  # as `schedule_of` reads it
    zone: str
    created: int  # when it was first seen
    last_slot: int  # the slot that was taken last; when it was first seen, if none was


class Store(Protocol):
    """One store, as one process sees it. All methods may be called from any thread.

    A connection is opened at the first use and belongs to the process that opened it: after a fork
    the child abandons what it inherited, without closing it, and opens its own.

    Each method is one transaction, except inside `batch()`. Every method may raise `StoreBusy`
    (nothing was written; try again), `StoreGone` or `StoreError`, each with a sentence for the user. A
    signal handler may call them, and its exception may interrupt each of them at any moment.
    """

    #: For messages: the path, or the URL without its password.
    name: str

    # -- life -------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the store if there is none, and bring its schema to this version (once, under a lock).

        Raises `SchemaTooNew`, `StoreError`.
        """
        ...

    def close(self) -> None:
        """Close this process's own connections. A later call opens them again."""
        ...

    def check(self) -> None:
        """Raise `StoreGone` if what was opened is no longer what the name leads to; cheap."""
        ...

    def adopt(self, app_id: str) -> None:
        """Make `app_id` the owner of an ownerless store; raise `WrongApplication` if it has another."""
        ...

    def changed(self) -> bool:
        """Whether another connection has committed since the last call (True if that is not known)."""
        ...

    def tidy(self) -> None:
        """Give back room that is not needed for now. For those who have nothing else to do."""
        ...

    # -- the caller's side ---------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[str]:
        """Store the jobs in one commit; durable on return. Answers with the id of each.

        A job whose id is there already is the same job written again, and is left as it is. Where a
        waiting or running job has the same `unique_key`, nothing is added and its id is the answer; but a
        waiting one that has expired when the new one is `created` is cancelled, and in nobody's way.
        """
        ...

    def get(self, job_id: str) -> Job | None:
        """The job with this id, or None."""
        ...

    def jobs(
        self,
        *,
        state: str | None = None,
        task: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        """Jobs, newest first (by `seq`), at most `limit` of them, those with `seq` < `before` if given."""
        ...

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state; a state without jobs may be missing."""
        ...

    def cancel(self, job_id: str, now: int, reason: str) -> bool:
        """Make a waiting job `cancelled`, to be kept `ERROR_TTL`. Whether it was waiting."""
        ...

    def retry(self, job_id: str, now: int) -> bool:
        """Let a job in `error` or `cancelled` begin anew: due now, `attempt`, `crashes` and failures at 0.

        What it left behind (error, output, result, reason, progress) is forgotten. False, and nothing
        changed, if it is in another state, or if an unfinished job has its `unique_key`, as in `enqueue`.
        """
        ...

    def unknown_tasks(self) -> dict[str, int]:
        """The tasks that no worker knew, at most a hundred of them, and how many jobs wait for each."""
        ...

    def size(self) -> int:
        """What the store takes on its disk, in bytes, without what is only for a while (a WAL)."""
        ...

    # -- the monitor's side -----------------------------------------------------------------

    def batch(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """One write transaction around several calls, committed on leaving, rolled back on an exception.

        durable: whether it must outlast a loss of power by itself; else with the next one that does.

        It belongs to the calling thread; other threads' writes wait for its end. Inside another one it is
        a part of that. When a call in it has failed, nothing of it is stored, even if that was caught.
        """
        ...

    def take_epoch(self, owner: str) -> int:
        """Begin the next epoch and make it `owner`'s: claims under an older one of this owner get nothing.

        Jobs that run under an older one stay its until `recover`; what is settled later is refused.
        """
        ...

    def newest_epoch(self, owner: str) -> int:
        """The epoch that `owner` began last, 0 if none."""
        ...

    def recover(self, owner: str, epoch: int, now: int, most: int) -> Recovery:
        """Let jobs wait again that run under an older epoch of `owner`, due as they were.

        `crashes` stays as it is: their monitor did not see them die. Those of which that is the `most`th
        interruption end in `error` (see `jobs.interrupted`).
        """
        ...

    def claim(self, owner: str, epoch: int, limit: int, now: int) -> list[Job]:
        """Take at most `limit` due waiting jobs: state `running`, `started` = now, `attempt` + 1.

        One statement, so that no two claims get the same job. Higher `priority` first, then earlier
        `due`, then `seq`. Expired jobs and those with the reason `UNKNOWN_TASK` are not taken. Nothing
        is taken if `epoch` is no longer `owner`'s newest. The cost does not grow with the number of
        waiting jobs, due or not; it does with that of their priorities, of which tasks can have 201.
        """
        ...

    def settle(self, jobs: Sequence[Job], epoch: int) -> int:
        """Write back claimed jobs (done, failed, waiting again …) that are still running under `epoch`.

        All columns but `id`, `seq`, `task`, `kind`, `created`, `payload`, `codec`, `unique_key` and
        `parent` are set. A job that leaves `running` loses `owner` and `epoch`. Characters of `reason`,
        `error_type`, `error` and `output` that no store can hold (NUL, lone surrogates) become escapes.
        Answers with the number of jobs that were still this epoch's.
        """
        ...

    def annotate(self, job_id: str, epoch: int, meta: dict[str, Any]) -> bool:
        """Replace `meta` of a job that runs under `epoch` (its progress). Whether it still did."""
        ...

    def next_due(self, now: int) -> int | None:
        """The earliest `due` of the waiting jobs that can be claimed and have not expired, or None.

        The cost does not grow with the number of jobs.
        """
        ...

    def revive(self, tasks: Sequence[str]) -> int:
        """Make waiting jobs claimable again whose reason is `UNKNOWN_TASK` and whose task is in `tasks`."""
        ...

    def purge(self, now: int, limit: int = 1000) -> int:
        """Delete finished jobs and cancel waiting ones whose `expires` has passed; how many were touched."""
        ...

    # -- cron -----------------------------------------------------------------------------------

    def see_cron(self, name: str, schedule: str, zone: str, now: int) -> int:
        """Note a cron, first seen now if it is new, and answer with its `last_slot` (`now` if it is new).

        A changed schedule or zone is stored, and its `last_slot` is then `now` as well. One that was taken
        by a clock that was ahead (`jobs.latest_slot`) is brought back to just before `now`, and runs that
        wait for a time as far away are cancelled.
        """
        ...

    def take_slot(self, name: str, slot: int, job: Job | None) -> bool:
        """Move the cron's `last_slot` forward to `slot` and store `job`, in one commit.

        False, and nothing stored, if `last_slot` is there already or later: somebody else took it.
        """
        ...

    def crons(self) -> list[CronRow]:
        """All crons that were ever seen, by name; also those that are gone from the code."""
        ...

    # -- settings -------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        """A setting that was made with `set_setting`, or None."""
        ...

    def set_setting(self, key: str, value: str | None) -> None:
        """Store a setting for every process that uses this store; None removes it."""
        ...

    def settings(self) -> dict[str, str]:
        """All settings that are set."""
        ...
