"""What a running task asks of its pool: store jobs, look one up, cancel one, note its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..jobs import Job, now
from .dispatch import Dispatcher
from .storethread import StoreThread
from .wire import Frame, Kind, WireError, pack_jobs, pieces, unpack_jobs

if TYPE_CHECKING:
    from .member import Worker


class Requests:
    """Answers the frames of kind ASK: a worker never opens the store itself."""

    def __init__(
        self, store: StoreThread, dispatch: Dispatcher, poke: Callable[[Iterable[Job]], None]
    ) -> None:
        self._store = store
        self._dispatch = dispatch
        self._poke = poke

    def answer(self, worker: Worker, frame: Frame) -> None:
        """Do what the frame asks, and answer under its id."""
        request = frame.head.get("request")
        if request == "progress":
            self._dispatch.progress(worker, frame.head["note"])
        elif request == "enqueue":
            self._enqueue(worker, frame)
        elif request == "get":
            self._get(worker, frame)
        elif request == "jobs":
            self._jobs(worker, frame)
        elif request == "cancel":
            self._cancel(worker, frame)
        else:
            raise WireError(f"request {request!r}")

    def _enqueue(self, worker: Worker, frame: Frame) -> None:
        jobs = unpack_jobs(frame.head["jobs"], frame.blob)

        def stored(ids: list[str]) -> None:
            worker.send(Frame(Kind.ANSWER, frame.id, {"ids": ids}))
            self._dispatch.wake(min(job.due for job in jobs))

        self._store.ask(lambda store: store.enqueue(jobs), stored)

    def _get(self, worker: Worker, frame: Frame) -> None:
        job_id = frame.head["id"]

        def found(job: Job | None) -> None:
            rows, blob = pack_jobs([job] if job else [])
            worker.send(Frame(Kind.ANSWER, frame.id, {"jobs": rows}, blob))

        self._store.ask(lambda store: store.get(job_id), found)

    def _jobs(self, worker: Worker, frame: Frame) -> None:
        head = frame.head

        def found(jobs: list[Job]) -> None:
            page = next(pieces([job._replace(payload=b"") for job in jobs]), [])
            rows, blob = pack_jobs(page)
            worker.send(Frame(Kind.ANSWER, frame.id, {"jobs": rows, "more": len(page) < len(jobs)}, blob))

        self._store.ask(
            lambda store: store.jobs(
                state=head["state"], task=head["task"], limit=head["limit"], before=head["before"]
            ),
            found,
        )

    def _cancel(self, worker: Worker, frame: Frame) -> None:
        job_id, reason, moment = frame.head["id"], frame.head["reason"], now()

        def done(was_waiting: bool) -> None:
            was_running = not was_waiting and self._dispatch.cancel(job_id, reason)
            worker.send(Frame(Kind.ANSWER, frame.id, {"cancelled": was_waiting or was_running}))

        self._store.ask(lambda store: store.cancel(job_id, moment, reason), done)
