"""What the dispatcher does with jobs, without processes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from autocron_web.jobs import Job
from autocron_web.pool.dispatch import Dispatcher, Exchange
from autocron_web.pool.failures import Broken
from autocron_web.pool.inflight import InFlight, Run
from autocron_web.pool.loop import Loop

pytestmark = pytest.mark.once

JOB = Job("id", "shop.tell", 0, 0, state="running", attempt=1)


class Request(NamedTuple):
    operation: Any
    reply: Any
    failed: Any


class Asked:
    """In the place of the store's thread: keeps what it is asked for, until the test answers."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def ask(self, operation: Any, reply: Any = None, *, failed: Any = None, durable: bool = True) -> None:
        self.requests.append(Request(operation, reply, failed))

    def settled(self) -> list[Job]:
        """What the last request writes."""
        settled: list[Job] = []
        store = SimpleNamespace(
            settle=lambda jobs, epoch: settled.extend(jobs),
            next_due=lambda moment: None,
            claim=lambda *_: [],
        )
        self.requests[-1].operation(store)
        return settled


class StandIn:
    """As much of a worker as the dispatcher asks."""

    pid, room, shelf_room, moved, is_available, untold = 7, 0, 0, 0.0, True, None

    def __init__(self, run: Callable[..., None]) -> None:
        self.runs = InFlight()
        self.run = run

    @property
    def is_idle(self) -> bool:
        return not self.runs

    def flush(self) -> None: ...

    def ended(self, job_id: str) -> Run:
        return self.runs.end_on_line(job_id)

    def take_back(self) -> list[str]:
        return []


class Desk:
    """A dispatcher with one worker that takes jobs."""

    def __init__(self) -> None:
        self.asked = Asked()
        self.given: list[Job] = []
        self.dispatch = Dispatcher(Loop(), self.asked, "local", 1)  # type: ignore[arg-type]  # as much of one
        self.worker: Any = StandIn(self._run)
        self.dispatch.learn(["shop.tell"], {})
        self.dispatch.worker_came(self.worker)
        self.dispatch.wake()

    def _run(self, job: Job, *_: object, **__: object) -> None:
        self.given.append(job)
        self.worker.runs.hand_over(job.id, Run(None))

    def claim(self, *jobs: Job) -> None:
        self.asked.requests[-1].reply(Exchange(list(jobs), False, None))

    def end(self) -> None:
        """The worker has done its job."""
        self.dispatch.result(self.worker, {"id": "id", "ok": True, "codec": "json"}, b"1", None)
        self.dispatch.go_on()


def test_a_job_that_comes_from_the_store_after_the_drain_has_begun_goes_back() -> None:
    desk = Desk()
    desk.dispatch.accept(False)
    desk.claim(JOB)
    assert desk.given == []
    assert [(each.id, each.state, each.attempt) for each in desk.asked.settled()] == [("id", "waiting", 0)]


def test_an_outcome_that_cannot_be_written_fails_its_job_alone() -> None:
    desk = Desk()
    news: list[Job] = []
    desk.dispatch.on_news = news.extend
    desk.claim(JOB)
    assert desk.given == [JOB]
    desk.end()
    assert [job.state for job in desk.asked.settled()] == ["done"]
    with pytest.raises(TypeError):  # it is told
        desk.asked.requests[-1].failed(TypeError("no store can hold it"))
    assert [job.state for job in desk.asked.settled()] == ["done"]  # alone, this time
    desk.asked.requests[-1].failed(TypeError("no store can hold it"))
    (job,) = desk.asked.settled()
    assert (job.state, job.error_type) == ("error", "NotStorable")
    assert job.error == "its end could not be stored: TypeError: no store can hold it"
    with pytest.raises(Broken):  # not even that
        desk.asked.requests[-1].failed(TypeError("no store can hold it"))
    desk.asked.requests[-1].reply(1)
    assert [job.state for job in news] == ["error"]


def test_a_claim_that_fails_is_tried_again_later() -> None:
    desk = Desk()
    before = len(desk.asked.requests)
    with pytest.raises(ValueError, match="a row that cannot be read"):
        desk.asked.requests[-1].failed(ValueError("a row that cannot be read"))
    assert len(desk.asked.requests) == before
    desk.dispatch.wake()
    assert len(desk.asked.requests) == before + 1


def test_a_job_that_was_lost_is_noticed() -> None:
    desk = Desk()
    sound = [desk.dispatch.is_sound([7])]
    desk.claim(JOB)
    sound += [desk.dispatch.is_sound([7]), desk.dispatch.is_sound([8])]  # of a worker that has gone
    desk.end()
    sound.append(desk.dispatch.is_sound([]))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    desk.dispatch._unlearn = fail  # type: ignore[method-assign]  # a mistake in this package
    with pytest.raises(ZeroDivisionError):
        desk.claim(JOB._replace(task="shop.unknown"))
    sound.append(desk.dispatch.is_sound([7]))
    assert sound == [True, True, False, True, False]
