"""The contract of `Store`: a job that has expired is in nobody's way."""

from __future__ import annotations

import pytest
from any_store import OWNER, epoch, other, place, store, stored  # noqa: F401
from places import NOW, job

from autocron_web.jobs import ERROR_TTL, SECOND, UNKNOWN_TASK, Job
from autocron_web.store import Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


def late(**columns: object) -> Job:
    """A unique job that had to begin within a second."""
    return job(unique_key="key", expires=NOW + SECOND, **columns)


def later(seconds: int = 1, **columns: object) -> Job:
    moment = NOW + seconds * SECOND
    return job(unique_key="key", created=moment, due=moment, **columns)


def test_a_job_that_has_expired_makes_room_for_the_next_one(store: Store, epoch: int) -> None:
    first = late()
    store.enqueue([first])
    assert store.enqueue([later(0)]) == [first.id]  # it can still begin
    second = later()
    assert store.enqueue([job(), second])[1] == second.id
    ended = stored(store, first)
    assert (ended.state, ended.reason) == ("cancelled", "expired")
    assert (ended.finished, ended.expires) == (second.created, second.created + ERROR_TTL)
    assert second.id in [each.id for each in store.claim(OWNER, epoch, 5, NOW + 2 * SECOND)]


def test_an_expired_job_of_an_unknown_task_makes_room_as_well(store: Store) -> None:
    first, second = late(reason=UNKNOWN_TASK), later()
    store.enqueue([first])
    assert store.enqueue([second]) == [second.id]


def test_a_job_that_has_begun_in_time_keeps_its_key(store: Store, epoch: int) -> None:
    first = late()
    store.enqueue([first])
    store.claim(OWNER, epoch, 1, NOW)
    assert store.enqueue([later(60)]) == [first.id]
    assert stored(store, first).state == "running"


def test_the_same_job_written_again_is_left_as_it_is(store: Store) -> None:
    first = late(created=NOW + 2 * SECOND)
    assert store.enqueue([first]) == [first.id]
    assert store.enqueue([first]) == [first.id]
    assert stored(store, first).state == "waiting"


def test_several_of_one_call_are_one_job(store: Store) -> None:
    first, second, third = late(), later(), later()
    store.enqueue([first])
    assert store.enqueue([second, third]) == [second.id, second.id]


def test_a_slot_is_not_lost_by_a_run_that_has_expired(store: Store) -> None:
    store.see_cron("shop.report", "* * * * *", "UTC", NOW)
    first, second = late(kind="cron"), later(60, kind="cron")
    assert store.take_slot("shop.report", NOW + 1, first)
    assert store.take_slot("shop.report", NOW + 60 * SECOND, second)
    assert (stored(store, first).reason, stored(store, second).state) == ("expired", "waiting")


def test_a_job_that_has_expired_keeps_no_other_from_beginning_anew(store: Store) -> None:
    failed = job(unique_key="key", state="error")
    store.enqueue([failed])
    rival = late()
    store.enqueue([rival])
    assert not store.retry(failed.id, NOW)
    assert not store.retry(rival.id, NOW + SECOND)  # it waits, and is not purged by the question
    assert stored(store, rival).state == "waiting"
    assert store.retry(failed.id, NOW + SECOND)
    assert (stored(store, failed).state, stored(store, rival).reason) == ("waiting", "expired")
