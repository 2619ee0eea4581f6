"""What a running task asks of its pool: store jobs, look one up, cancel one, note its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from ..jobs import FINISHED, Job, now
from ..store import Store
from .dispatch import Dispatcher
from .member import Worker
from .shapes import check_new, request_of
from .storethread import StoreThread
from .wire import PIECE, Frame, Kind, WireError, cost_of, describe, pack_jobs, pieces, unpack_jobs

if TYPE_CHECKING:
    from .crew import Crew

T = TypeVar("T")

STEP = 10  # jobs that are read at a time: each may have 1 MiB of arguments and 1 MiB of result
LARGEST_BACKLOG = 16 * 1024 * 1024  # bytes of answers that a worker may leave unread


class Asker(Protocol):
    """A worker, or a process that its task has forked."""

    def send(self, frame: Frame, /) -> None: ...


class Requests:
    """Answers the frames of kind ASK: a worker never opens the store itself."""

    def __init__(
        self,
        store: StoreThread,
        dispatch: Dispatcher,
        crew: Crew,
        poke: Callable[[Iterable[Job]], None],
    ) -> None:
        self._store = store
        self._dispatch = dispatch
        self._crew = crew
        self._poke = poke

    def answer(self, asker: Asker, frame: Frame) -> None:
        """Do what the frame asks, and answer under its id: with an error if that cannot be done.

        Raises `WireError` where nobody would read the answer.
        """
        if isinstance(asker, Worker) and asker.channel.backlog > LARGEST_BACKLOG:
            raise WireError("a task asks, and does not read what is answered")
        try:
            request = request_of(frame)
        except WireError as error:
            self._refuse(asker, frame, error)
            return
        if request == "progress":
            self._dispatch.progress(frame.head["id"], frame.head["note"])
            return
        answer = {
            "enqueue": self._enqueue, "get": self._get, "jobs": self._jobs, "cancel": self._cancel,
        }[request]  # fmt: skip
        try:
            answer(asker, frame)
        except Exception as error:
            self._refuse(asker, frame, error)

    @staticmethod
    def _refuse(asker: Asker, frame: Frame, error: Exception) -> None:
        asker.send(Frame(Kind.ANSWER, frame.id, {"error": describe(error)}))

    def _ask(
        self,
        asker: Asker,
        frame: Frame,
        operation: Callable[[Store], T],
        reply: Callable[[T], None],
        *,
        writes: bool,
    ) -> None:
        """Let the store do it. Whatever fails, in the store or in the reply, is the asker's to know."""
        self._store.ask(
            operation, reply, failed=lambda error: self._refuse(asker, frame, error), writes=writes
        )

    def _enqueue(self, asker: Asker, frame: Frame) -> None:
        jobs = unpack_jobs(frame.head["jobs"], frame.blob)
        for job in jobs:
            check_new(job)

        def stored(ids: list[str]) -> None:
            asker.send(Frame(Kind.ANSWER, frame.id, {"ids": ids}))
            self._dispatch.wake(min(job.due for job in jobs))

        self._ask(asker, frame, lambda store: store.enqueue(jobs), stored, writes=True)

    def _get(self, asker: Asker, frame: Frame) -> None:
        job_id = frame.head["id"]

        def found(job: Job | None) -> None:
            rows, blob = pack_jobs([job] if job else [])
            head: dict[str, Any] = {"jobs": rows}
            if job is not None and "patience" in frame.head and isinstance(asker, Worker):
                self._note_wait(asker, job, frame.head, head)
            asker.send(Frame(Kind.ANSWER, frame.id, head, blob))

        self._ask(asker, frame, lambda store: store.get(job_id), found, writes=False)

    def _note_wait(self, worker: Worker, job: Job, asked: dict[str, Any], head: dict[str, Any]) -> None:
        """A task in the worker waits for this job: say so if it waits for ever."""
        run = worker.runs.get(asked["by"])
        if run is None:
            return  # its own job has ended, and a thread of it goes on
        if job.state in FINISHED or job.due > now():
            run.stops_waiting()
            return
        worker.waits(run, asked["patience"])
        if job.state == "waiting" and worker.is_stuck and self._crew.is_stuck:
            head["stuck"] = self._crew.size
            run.stops_waiting()  # it goes on, and makes room for the others

    def _jobs(self, asker: Asker, frame: Frame) -> None:
        head = frame.head

        def found(page: Page) -> None:
            rows, blob = pack_jobs(page.jobs)
            asker.send(Frame(Kind.ANSWER, frame.id, {"jobs": rows, "more": page.more}, blob))

        self._ask(
            asker,
            frame,
            lambda store: read_page(store, head["state"], head["task"], head["limit"], head["before"]),
            found,
            writes=False,
        )

    def _cancel(self, asker: Asker, frame: Frame) -> None:
        job_id, reason, moment = frame.head["id"], frame.head["reason"], now()

        def done(was_waiting: bool) -> None:
            was_running = not was_waiting and self._dispatch.cancel(job_id, reason)
            asker.send(Frame(Kind.ANSWER, frame.id, {"cancelled": was_waiting or was_running}))

        self._ask(asker, frame, lambda store: store.cancel(job_id, moment, reason), done, writes=True)


class Page(NamedTuple):
    """Some jobs, newest first."""

    jobs: list[Job]
    more: bool  # there may be further ones


def read_page(store: Store, state: str | None, task: str | None, limit: int, before: int | None) -> Page:
    """As many jobs as fit one frame well, without their arguments. Reads a few more than that at most."""
    jobs: list[Job] = []
    size, more = 0, True
    while more and len(jobs) < limit and size < PIECE:
        most = min(STEP, limit - len(jobs))
        found = store.jobs(state=state, task=task, limit=most, before=before)
        jobs += [job._replace(payload=b"") for job in found]
        size = sum(map(cost_of, jobs))
        more = len(found) == most
        before = found[-1].seq if found else None
    page = list(next(pieces(jobs), []))
    return Page(page, more or len(page) < len(jobs))
