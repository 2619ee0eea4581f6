"""The contract of `Store`: its life, what callers ask of it, settings."""

from __future__ import annotations

import os

import pytest
from any_store import OWNER, epoch, other, place, store, stored  # noqa: F401
from places import NOW, Place, at_once, job

from autocron_web.errors import WrongApplication
from autocron_web.jobs import SECOND, UNKNOWN_TASK, Job
from autocron_web.store import Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- life ------------------------------------------------------------------------------------------


def test_a_new_store_is_empty(store: Store) -> None:
    store.open()
    assert store.counts() == {}
    assert store.jobs() == []
    assert store.settings() == {}
    assert store.next_due(NOW) is None
    store.check()


def test_opening_again_changes_nothing(store: Store, other: Store) -> None:
    store.open()
    [waiting] = [job()]
    store.enqueue([waiting])
    store.open()
    other.open()
    assert other.get(waiting.id) == stored(store, waiting)


def test_a_closed_store_opens_again_at_the_next_call(store: Store) -> None:
    waiting = job()
    store.enqueue([waiting])
    store.close()
    store.close()
    assert stored(store, waiting).task == waiting.task
    store.close()
    store.enqueue([job()])
    assert store.counts() == {"waiting": 2}


def test_a_store_belongs_to_the_application_that_came_first(store: Store, other: Store) -> None:
    store.adopt("shop")
    store.adopt("shop")
    other.adopt("shop")
    with pytest.raises(WrongApplication, match=r"'shop'.*'blog'"):
        other.adopt("blog")


def test_of_many_applications_that_come_at_once_one_gets_the_store(place: Place, store: Store) -> None:
    store.open()

    def adopt(app_id: str) -> str | None:
        store = place.store()
        try:
            store.adopt(app_id)
        except WrongApplication:
            return None
        return app_id

    names = [f"app{number}" for number in range(6)]
    winners = at_once([lambda name=name: adopt(name) for name in names])
    assert len([name for name in winners if name]) == 1


def test_changed_misses_no_commit_of_others(store: Store, other: Store) -> None:
    assert store.changed()  # not known yet
    store.changed()
    other.enqueue([job()])
    assert store.changed()


# -- the caller's side -----------------------------------------------------------------------------


def test_every_column_comes_back_as_it_went_in(store: Store) -> None:
    full = Job(
        id="0190a6f0-0000-7000-8000-00000000000f",
        task="shop.tasks.käse",
        due=NOW + 1,
        created=NOW + 2,
        kind="cron",
        queue="mail",
        priority=-7,
        state="running",
        reason="why",
        started=NOW + 3,
        finished=NOW + 4,
        attempt=5,
        crashes=2,
        epoch=9,
        owner="somebody",
        unique_key="key",
        expires=NOW + 6,
        codec="pickle",
        payload=bytes(range(256)),
        result=b"\0\xff",
        error_type="ValueError",
        error="line 1\nline 2",
        output="\x1b[31mred\x1b[0m – 🎈",
        parent="another",
        meta={"progress": [1, 2.5, None, "é\0\ud800"], "nested": {"a": True}},
    )
    assert all(getattr(full, name) != Job._field_defaults.get(name) for name in Job._fields if name != "seq")
    plain = job()
    assert store.enqueue([full, plain]) == [full.id, plain.id]
    found = [stored(store, full), stored(store, plain)]
    assert [each._replace(seq=None) for each in found] == [full, plain]
    assert found[0].seq is not None
    assert found[1].seq is not None
    assert found[0].seq < found[1].seq


def test_a_job_with_the_same_id_is_the_same_job(store: Store, other: Store) -> None:
    first = job(payload=b"first")
    store.enqueue([first])
    before = stored(store, first)
    assert other.enqueue([first._replace(payload=b"second", priority=3)]) == [first.id]
    assert stored(store, first) == before
    assert store.counts() == {"waiting": 1}


def test_a_waiting_or_running_job_with_the_same_key_is_the_answer(store: Store, epoch: int) -> None:
    first, second, third, fourth = (job(unique_key="user 7") for _ in range(4))
    assert store.enqueue([first, second, job(unique_key="user 8")])[:2] == [first.id, first.id]
    [running, _] = store.claim(OWNER, epoch, 2, NOW)
    assert running.id == first.id
    assert store.enqueue([third]) == [first.id]
    store.settle([running._replace(state="done")], epoch)
    assert store.enqueue([fourth]) == [fourth.id]
    assert [store.get(each.id) is None for each in (first, second, third, fourth)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_repeated_write_of_a_job_with_a_key_is_the_same_job(store: Store, epoch: int) -> None:
    first = job(unique_key="user 7")
    store.enqueue([first])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    store.settle([running._replace(state="done")], epoch)
    second = job(unique_key="user 7")
    store.enqueue([second])
    assert store.enqueue([first, second]) == [first.id, second.id]
    assert store.counts() == {"done": 1, "waiting": 1}


def test_a_call_that_fails_stores_nothing(store: Store) -> None:
    good = job()
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the driver's business
        store.enqueue([good, job(payload=object())])
    assert store.get(good.id) is None
    assert store.enqueue([good]) == [good.id]
    assert store.enqueue([]) == []


def test_jobs_come_newest_first_in_pages(store: Store, epoch: int) -> None:
    jobs = [job(task="shop.even" if number % 2 == 0 else "shop.odd") for number in range(9)]
    store.enqueue(jobs)
    ids = [each.id for each in reversed(jobs)]
    assert [each.id for each in store.jobs()] == ids
    pages: list[str] = []
    before = None
    while page := store.jobs(limit=4, before=before):
        assert len(page) <= 4
        pages += [each.id for each in page]
        before = page[-1].seq
    assert pages == ids
    assert [each.id for each in store.jobs(task="shop.odd")] == ids[1::2]

    store.claim(OWNER, epoch, 3, NOW)
    assert [each.id for each in store.jobs(state="running")] == ids[-3:]
    assert [each.id for each in store.jobs(state="waiting", task="shop.even", limit=2)] == [ids[0], ids[2]]
    assert store.jobs(state="done") == []


def test_counts_are_by_state(store: Store, epoch: int) -> None:
    jobs = [job() for _ in range(6)]
    store.enqueue([*jobs, job(reason=UNKNOWN_TASK)])
    done, failed, *_ = store.claim(OWNER, epoch, 3, NOW)
    store.settle([done._replace(state="done"), failed._replace(state="error")], epoch)
    store.cancel(jobs[-1].id, NOW, "not wanted")
    counts = {state: number for state, number in store.counts().items() if number}
    assert counts == {"waiting": 3, "running": 1, "done": 1, "error": 1, "cancelled": 1}


def test_only_a_waiting_job_can_be_cancelled(store: Store, epoch: int) -> None:
    first, second = job(), job(due=NOW + SECOND, unique_key="key")
    store.enqueue([first, second])
    store.claim(OWNER, epoch, 1, NOW)
    assert not store.cancel(first.id, NOW, "too late")
    assert store.cancel(second.id, NOW + 5, "not wanted")
    assert not store.cancel(second.id, NOW + 6, "again")
    assert not store.cancel("no such job", NOW, "nothing")
    assert stored(store, first).state == "running"
    cancelled = stored(store, second)
    assert (cancelled.state, cancelled.reason, cancelled.finished) == ("cancelled", "not wanted", NOW + 5)
    again = job(unique_key="key")
    assert store.enqueue([again]) == [again.id]
    assert [each.id for each in store.claim(OWNER, epoch, 9, NOW + 2 * SECOND)] == [again.id]


@pytest.mark.parametrize("state", ["error", "cancelled"])
def test_a_job_that_has_failed_or_was_cancelled_begins_anew(store: Store, epoch: int, state: str) -> None:
    failed = job(
        due=NOW - 9, state=state, reason="failed", started=NOW - 5, finished=NOW - 3, attempt=4, crashes=3,
        expires=NOW - 1, codec="json", payload=b"p", result=b"r", error_type="E", error="e", output="o",
        meta={"retries": 3, "failures": 3, "progress": [1, 2, None]}, priority=2, queue="mail",
    )  # fmt: skip
    store.enqueue([failed])
    assert store.retry(failed.id, NOW)
    waiting = job(
        id=failed.id, due=NOW, created=failed.created, payload=b"p", meta={"retries": 3}, priority=2,
        queue="mail",
    )  # fmt: skip
    assert stored(store, failed)._replace(seq=None) == waiting
    assert not store.retry(failed.id, NOW)
    [claimed] = store.claim(OWNER, epoch, 1, NOW)
    assert (claimed.id, claimed.attempt) == (failed.id, 1)
    assert not store.retry(failed.id, NOW)
    store.settle([claimed._replace(state="done")], epoch)
    assert not store.retry(failed.id, NOW)
    assert not store.retry("no such job", NOW)


def test_a_job_does_not_begin_anew_beside_one_with_its_key(store: Store) -> None:
    failed, next_one = job(state="error", unique_key="key"), job(unique_key="key")
    store.enqueue([failed])
    store.enqueue([next_one])
    assert not store.retry(failed.id, NOW)
    assert stored(store, failed).state == "error"
    store.cancel(next_one.id, NOW, "not wanted")
    assert store.retry(failed.id, NOW)


def test_the_size_grows_with_what_is_stored(store: Store) -> None:
    store.open()
    before = store.size()
    assert before > 0
    store.enqueue([job(payload=os.urandom(500_000))])
    assert store.size() > before + 400_000


# -- settings --------------------------------------------------------------------------------------


def test_a_setting_holds_for_every_process(store: Store, other: Store) -> None:
    assert store.setting("workers") is None
    store.set_setting("workers", "4")
    store.set_setting("lock", "on")
    other.set_setting("workers", "5")
    assert store.setting("workers") == "5"
    assert store.settings() == {"workers": "5", "lock": "on"}
    other.set_setting("lock", None)
    other.set_setting("lock", None)
    assert store.settings() == {"workers": "5"}
