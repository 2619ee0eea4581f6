"""What the dispatcher does with jobs, without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autocron_web.jobs import Job
from autocron_web.pool.dispatch import Dispatcher, Exchange
from autocron_web.pool.inflight import InFlight
from autocron_web.pool.loop import Loop

pytestmark = pytest.mark.once


class Asked:
    """In the place of the store's thread: keeps what it is asked for, until the test answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, Any]] = []

    def ask(self, operation: Any, reply: Any = None, *, durable: bool = True) -> None:
        self.requests.append((operation, reply))


def test_a_job_that_comes_from_the_store_after_the_drain_has_begun_goes_back() -> None:
    asked: Any = Asked()
    given: list[Job] = []
    worker: Any = SimpleNamespace(
        runs=InFlight(), is_idle=True, room=0, shelf_room=0, moved=0.0, flush=lambda: None,
        run=lambda job, *_, **__: given.append(job),
    )  # fmt: skip
    dispatch = Dispatcher(Loop(), asked, "local", 1)
    dispatch.learn(["shop.tell"], {})
    dispatch.worker_came(worker)
    dispatch.wake()
    _, reply = asked.requests[-1]
    dispatch.accept(False)
    job = Job("id", "shop.tell", 0, 0, state="running", attempt=1)
    reply(Exchange([job], False, None))
    assert given == []
    settled: list[Job] = []
    operation, _ = asked.requests[-1]
    operation(SimpleNamespace(settle=lambda jobs, epoch: settled.extend(jobs), next_due=lambda moment: None))
    assert [(each.id, each.state, each.attempt) for each in settled] == [("id", "waiting", 0)]
