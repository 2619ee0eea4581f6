"""What a running task asks of its pool: store jobs, look one up, cancel one, note its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..jobs import FINISHED, Job, now
from .dispatch import Dispatcher
from .member import Worker
from .storethread import StoreThread
from .wire import Frame, Kind, WireError, pack_jobs, pieces, unpack_jobs

if TYPE_CHECKING:
    from .crew import Crew


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
        """Do what the frame asks, and answer under its id."""
        request = frame.head.get("request")
        if request == "progress":
            self._dispatch.progress(frame.head["id"], frame.head["note"])
        elif request == "enqueue":
            self._enqueue(asker, frame)
        elif request == "get":
            self._get(asker, frame)
        elif request == "jobs":
            self._jobs(asker, frame)
        elif request == "cancel":
            self._cancel(asker, frame)
        else:
            raise WireError(f"request {request!r}")

    def _enqueue(self, asker: Asker, frame: Frame) -> None:
        jobs = unpack_jobs(frame.head["jobs"], frame.blob)

        def stored(ids: list[str]) -> None:
            asker.send(Frame(Kind.ANSWER, frame.id, {"ids": ids}))
            self._dispatch.wake(min(job.due for job in jobs))

        self._store.ask(lambda store: store.enqueue(jobs), stored)

    def _get(self, asker: Asker, frame: Frame) -> None:
        job_id = frame.head["id"]

        def found(job: Job | None) -> None:
            rows, blob = pack_jobs([job] if job else [])
            head: dict[str, Any] = {"jobs": rows}
            if job is not None and "patience" in frame.head and isinstance(asker, Worker):
                self._note_wait(asker, job, frame.head, head)
            asker.send(Frame(Kind.ANSWER, frame.id, head, blob))

        self._store.ask(lambda store: store.get(job_id), found)

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

        def found(jobs: list[Job]) -> None:
            page = next(pieces([job._replace(payload=b"") for job in jobs]), [])
            rows, blob = pack_jobs(page)
            asker.send(Frame(Kind.ANSWER, frame.id, {"jobs": rows, "more": len(page) < len(jobs)}, blob))

        self._store.ask(
            lambda store: store.jobs(
                state=head["state"], task=head["task"], limit=head["limit"], before=head["before"]
            ),
            found,
        )

    def _cancel(self, asker: Asker, frame: Frame) -> None:
        job_id, reason, moment = frame.head["id"], frame.head["reason"], now()

        def done(was_waiting: bool) -> None:
            was_running = not was_waiting and self._dispatch.cancel(job_id, reason)
            asker.send(Frame(Kind.ANSWER, frame.id, {"cancelled": was_waiting or was_running}))

        self._store.ask(lambda store: store.cancel(job_id, moment, reason), done)
