"""The contract of `Store`, for every implementation: the sentences of the protocol, one by one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import NOW, Child, Place, PostgresPlace, SqlitePlace, at_once, job, postgres

from autocron_web.errors import StoreError, WrongApplication
from autocron_web.jobs import SECOND, UNKNOWN_TASK, Job
from autocron_web.store import CronRow, Recovery, Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

OWNER = "machine"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield SqlitePlace(tmp_path)
        return
    place = PostgresPlace(postgres())
    place.execute(f"CREATE SCHEMA {place.schema}")
    yield place
    place.execute(f"DROP SCHEMA {place.schema} CASCADE")


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = place.store()
    yield store
    store.close()


@pytest.fixture
def other(place: Place) -> Iterator[Store]:
    """A second store of the same database, as another process has it."""
    other = place.store()
    yield other
    other.close()


@pytest.fixture
def epoch(store: Store) -> int:
    return store.take_epoch(OWNER)


def stored(store: Store, sought: Job) -> Job:
    found = store.get(sought.id)
    assert found is not None
    return found


# -- life -----------------------------------------------------------------------------------------


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


# -- the caller's side ------------------------------------------------------------------------------


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


# -- claims -----------------------------------------------------------------------------------------


def test_a_claim_goes_by_priority_then_due_then_arrival(store: Store, epoch: int) -> None:
    low, late, high, early, second = jobs = [
        job(priority=-1, due=NOW - 9),
        job(due=NOW),
        job(priority=5, due=NOW),
        job(due=NOW - 1),
        job(due=NOW),
    ]
    store.enqueue(jobs)
    expected = [each.id for each in (high, early, late, second, low)]
    assert [each.id for each in store.claim(OWNER, epoch, 2, NOW)] == expected[:2]
    assert [each.id for each in store.claim(OWNER, epoch, 9, NOW)] == expected[2:]
    assert store.claim(OWNER, epoch, 9, NOW) == []


def test_a_claimed_job_runs_for_its_owner(store: Store, epoch: int) -> None:
    waiting = job(attempt=2, reason="retry", meta={"retries": 3})
    store.enqueue([waiting])
    [running] = store.claim(OWNER, epoch, 1, NOW + 7)
    assert running._replace(seq=None) == waiting._replace(
        state="running", started=NOW + 7, attempt=3, epoch=epoch, owner=OWNER
    )
    assert stored(store, waiting) == running


def test_a_claim_leaves_what_is_not_due_has_expired_or_is_unknown(store: Store, epoch: int) -> None:
    due, kept = job(), job(expires=NOW + 1)
    store.enqueue(
        [
            job(due=NOW + 1, priority=9),
            job(expires=NOW, priority=9),
            job(reason=UNKNOWN_TASK, priority=9),
            job(state="done", priority=9),
            job(state="error", priority=9),
            job(state="cancelled", priority=9),
            due,
            kept,
        ]
    )
    assert [each.id for each in store.claim(OWNER, epoch, 99, NOW)] == [due.id, kept.id]


def test_an_older_epoch_claims_nothing(store: Store, other: Store) -> None:
    store.enqueue([job(), job()])
    old = store.take_epoch(OWNER)
    new = other.take_epoch(OWNER)
    assert new > old
    assert store.claim(OWNER, old, 1, NOW) == []
    assert len(other.claim(OWNER, new, 1, NOW)) == 1


def test_the_newest_epoch_of_an_owner_is_known(store: Store, other: Store) -> None:
    assert store.newest_epoch(OWNER) == 0
    epoch = store.take_epoch(OWNER)
    other.take_epoch("another machine")
    assert other.newest_epoch(OWNER) == epoch


def test_each_owner_has_epochs_of_its_own(store: Store, epoch: int) -> None:
    store.enqueue([job(), job()])
    elsewhere = store.take_epoch("another machine")
    assert elsewhere > epoch
    assert store.claim(OWNER, elsewhere, 1, NOW) == []
    assert store.claim("another machine", epoch, 1, NOW) == []
    assert len(store.claim(OWNER, epoch, 1, NOW)) == 1
    assert len(store.claim("another machine", elsewhere, 1, NOW)) == 1


def test_no_two_claims_get_the_same_job(store: Store, epoch: int) -> None:
    jobs = [job(priority=number % 3) for number in range(150)]
    store.enqueue(jobs)

    def claim_all() -> list[str]:
        claimed: list[str] = []
        while some := store.claim(OWNER, epoch, 4, NOW):
            claimed += [each.id for each in some]
        return claimed

    shares = at_once([claim_all] * 4)
    assert sorted(each for share in shares for each in share) == sorted(each.id for each in jobs)


# -- the end of a job -------------------------------------------------------------------------------


def test_settle_writes_what_became_of_a_job(store: Store, epoch: int) -> None:
    store.enqueue([job(unique_key="key", parent="parent")])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    done = running._replace(
        due=NOW + 1, queue="other", priority=4, state="error", reason="failed", started=NOW + 2,
        finished=NOW + 3, attempt=7, crashes=1, expires=NOW + 4, result=b"r", error_type="E", error="e",
        output="o", meta={"a": 1},
    )  # fmt: skip
    ignored = done._replace(
        task="x", kind="x", created=1, payload=b"x", codec="x", unique_key="x", parent="x"
    )
    assert store.settle([ignored], epoch) == 1
    assert stored(store, done) == done._replace(owner=None, epoch=None)


def test_a_settled_job_that_waits_again_is_claimed_again(store: Store, epoch: int) -> None:
    store.enqueue([job()])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    assert store.settle([running._replace(state="waiting", due=NOW + 5, reason="retry")], epoch) == 1
    waiting = stored(store, running)
    assert (waiting.owner, waiting.epoch, waiting.attempt) == (None, None, 1)
    assert store.claim(OWNER, epoch, 1, NOW + 4) == []
    [again] = store.claim(OWNER, epoch, 1, NOW + 5)
    assert (again.id, again.attempt) == (running.id, 2)


def test_a_settled_job_that_still_runs_keeps_its_owner(store: Store, epoch: int) -> None:
    store.enqueue([job()])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    assert store.settle([running._replace(output="so far")], epoch) == 1
    assert stored(store, running) == running._replace(output="so far")


def test_only_jobs_that_still_run_under_the_epoch_are_settled(store: Store, epoch: int) -> None:
    store.enqueue([job(), job(), job()])
    first, second, third = store.claim(OWNER, epoch, 3, NOW)
    store.settle([first._replace(state="done", result=b"1")], epoch)
    done = [each._replace(state="done", result=b"2") for each in (first, second, third)]
    assert store.settle(done, epoch + 1) == 0
    assert store.settle(done, epoch) == 2
    assert stored(store, first).result == b"1"
    assert store.settle(done, epoch) == 0
    assert store.settle([], epoch) == 0


def test_characters_that_no_store_can_hold_are_settled_as_escapes(store: Store, epoch: int) -> None:
    store.enqueue([job(), job()])
    bad, good = store.claim(OWNER, epoch, 2, NOW)
    bad = bad._replace(state="error", output="a\0b", error="c\udc80d", error_type="é\ud800", reason="\0")
    assert store.settle([bad, good._replace(state="done")], epoch) == 2
    found = stored(store, bad)
    assert (found.output, found.error, found.error_type) == ("a\\x00b", "c\\udc80d", "é\\ud800")


def test_annotate_replaces_meta_of_a_job_that_runs_under_the_epoch(store: Store, epoch: int) -> None:
    store.enqueue([job(meta={"a": 1}), job()])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    assert store.annotate(running.id, epoch, {"progress": [3, 10, "ü"]})
    assert stored(store, running) == running._replace(meta={"progress": [3, 10, "ü"]})
    assert not store.annotate(running.id, epoch + 1, {})
    assert not store.annotate("no such job", epoch, {})
    store.settle([running._replace(state="done")], epoch)
    assert not store.annotate(running.id, epoch, {"late": 1})


# -- recovery -----------------------------------------------------------------------------------------


def test_recover_lets_jobs_of_an_older_epoch_wait_again(store: Store, epoch: int, other: Store) -> None:
    waiting = job(due=NOW - 3, crashes=2)
    store.enqueue([waiting])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    new = other.take_epoch(OWNER)
    assert other.recover(OWNER, new, NOW + 9, 20) == Recovery(waiting=1, failed=0)
    found = stored(store, waiting)
    assert (found.state, found.due, found.crashes, found.attempt) == ("waiting", NOW - 3, 2, 1)
    assert (found.owner, found.epoch) == (None, None)
    assert store.settle([running._replace(state="done")], epoch) == 0
    assert not store.annotate(running.id, epoch, {"late": 1})
    [again] = other.claim(OWNER, new, 1, NOW)
    assert store.settle([running._replace(state="done")], epoch) == 0
    assert other.settle([again._replace(state="done")], new) == 1


def test_recover_ends_jobs_that_were_handed_over_too_often(store: Store, epoch: int) -> None:
    store.enqueue([job(attempt=2), job(attempt=1)])
    [given_up, _] = store.claim(OWNER, epoch, 2, NOW)
    new = store.take_epoch(OWNER)
    assert store.recover(OWNER, new, NOW + 9, 3) == Recovery(waiting=1, failed=1)
    found = stored(store, given_up)
    assert (found.state, found.error_type, found.finished) == ("error", "Interrupted", NOW + 9)
    assert (found.owner, found.epoch) == (None, None)
    assert found.error is not None
    assert found.error.startswith("interrupted")
    assert found.expires is not None
    assert found.expires > NOW + 9


def test_recover_leaves_the_jobs_of_others_and_of_its_own_epoch(store: Store, epoch: int) -> None:
    store.enqueue([job(), job()])
    elsewhere = store.take_epoch("another machine")
    store.claim("another machine", elsewhere, 1, NOW)
    new = store.take_epoch(OWNER)
    store.claim(OWNER, new, 1, NOW)
    assert store.recover(OWNER, new, NOW, 1) == Recovery(0, 0)
    assert store.counts()["running"] == 2


# -- what comes next ----------------------------------------------------------------------------------


def test_next_due_is_the_earliest_of_what_can_be_claimed(store: Store, epoch: int) -> None:
    store.enqueue([job(due=NOW + 30, priority=5), job(due=NOW + 20), job(due=NOW + 25, priority=-5)])
    store.enqueue([job(due=NOW + 1, reason=UNKNOWN_TASK), job(due=NOW + 2, expires=NOW)])
    assert store.next_due(NOW) == NOW + 20
    store.claim(OWNER, epoch, 1, NOW + 20)
    assert store.next_due(NOW) == NOW + 25
    store.claim(OWNER, epoch, 2, NOW + 30)
    assert store.next_due(NOW) is None


def test_an_unknown_job_waits_until_its_task_is_known(store: Store, epoch: int) -> None:
    jobs = [job(task=f"shop.{name}", reason=UNKNOWN_TASK) for name in ("a", "a", "b", "c")]
    store.enqueue([*jobs, job(task="shop.a", reason="retry", due=NOW + 1)])
    assert store.unknown_tasks() == {"shop.a": 2, "shop.b": 1, "shop.c": 1}
    assert store.revive(["shop.a", "shop.c", "shop.d"]) == 3
    assert store.unknown_tasks() == {"shop.b": 1}
    assert store.revive([]) == 0
    claimed = store.claim(OWNER, epoch, 9, NOW)
    assert [(each.task, each.reason) for each in claimed] == [("shop.a", None)] * 2 + [("shop.c", None)]
    assert store.jobs(task="shop.a")[0].reason == "retry"


def test_purge_deletes_the_finished_and_cancels_the_late(store: Store, epoch: int) -> None:
    states = ("done", "error", "cancelled")
    gone = [job(state=state, expires=NOW) for state in states]
    kept = [job(state=state, expires=NOW + 1) for state in states] + [job(state="done"), job(expires=NOW + 1)]
    late, running = job(expires=NOW, unique_key="key"), job(expires=NOW + 1)
    store.enqueue([*gone, *kept, late])
    store.enqueue([running._replace(state="running", owner=OWNER, epoch=epoch, expires=NOW - 1)])
    assert store.purge(NOW) == 4
    assert [store.get(each.id) for each in gone] == [None] * 3
    assert all(store.get(each.id) for each in kept)
    assert stored(store, running).state == "running"
    cancelled = stored(store, late)
    assert (cancelled.state, cancelled.reason, cancelled.finished) == ("cancelled", "expired", NOW)
    assert cancelled.expires is not None
    assert cancelled.expires > NOW
    assert store.purge(NOW) == 0


def test_purge_touches_no_more_than_its_limit(store: Store) -> None:
    store.enqueue(
        [job(state="done", expires=NOW - 1) for _ in range(5)] + [job(expires=NOW) for _ in range(2)]
    )
    assert [store.purge(NOW, limit=3) for _ in range(4)] == [3, 3, 1, 0]


# -- batches ------------------------------------------------------------------------------------------


def test_a_batch_is_one_commit(store: Store, other: Store, epoch: int) -> None:
    first, second = job(), job()
    store.enqueue([first])
    with store.batch():
        store.enqueue([second])
        [running, _] = store.claim(OWNER, epoch, 2, NOW)
        store.settle([running._replace(state="done")], epoch)
        assert stored(store, running).state == "done"  # its own thread sees it
        assert store.counts() == {"done": 1, "running": 1}
        assert other.counts() == {"waiting": 1}
    assert other.counts() == {"done": 1, "running": 1}


def test_a_batch_is_rolled_back_on_an_exception(store: Store, epoch: int) -> None:
    first, second = job(), job()
    store.enqueue([first])

    def fail() -> None:
        with store.batch():
            store.enqueue([second])
            store.claim(OWNER, epoch, 9, NOW)
            store.set_setting("workers", "3")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.counts() == {"waiting": 1}
    assert store.get(second.id) is None
    assert store.setting("workers") is None
    assert store.enqueue([second]) == [second.id]


def test_a_batch_in_a_batch_belongs_to_the_outer_one(store: Store) -> None:
    def fail() -> None:
        with store.batch():
            with store.batch():
                store.enqueue([job()])
            assert store.counts() == {"waiting": 1}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.counts() == {}


def test_a_batch_in_which_a_call_failed_stores_nothing(store: Store) -> None:
    def ignore_a_failure() -> None:
        with store.batch():
            store.enqueue([job()])
            with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the driver's business
                store.enqueue([job(payload=object())])

    with pytest.raises(StoreError, match="batch"):
        ignore_a_failure()
    assert store.counts() == {}
    store.enqueue([job()])
    assert store.counts() == {"waiting": 1}


def test_a_batch_is_one_threads_own(store: Store) -> None:
    began, stored_elsewhere = threading.Event(), []

    def enqueue() -> None:
        began.set()
        stored_elsewhere.extend(store.enqueue([job()]))

    thread = threading.Thread(target=enqueue)

    def fail() -> None:
        with store.batch():
            thread.start()
            assert began.wait(5)
            store.enqueue([job()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    thread.join(10)
    assert [each.id for each in store.jobs()] == stored_elsewhere
    assert len(stored_elsewhere) == 1


# -- cron ---------------------------------------------------------------------------------------------


def test_a_cron_begins_when_it_is_first_seen(store: Store, other: Store) -> None:
    assert store.see_cron("digest", "0 2 * * *", "UTC", NOW) == NOW
    assert other.see_cron("digest", "0 2 * * *", "UTC", NOW + 50) == NOW
    assert store.take_slot("digest", NOW + 10, None)
    assert other.see_cron("digest", "0 2 * * *", "UTC", NOW + 60) == NOW + 10


def test_all_crons_are_listed_by_name(store: Store, other: Store) -> None:
    assert store.crons() == []
    store.see_cron("report", "every 5", "UTC", NOW + 1)
    store.see_cron("digest", "0 2 * * *", "Europe/Berlin", NOW)
    store.take_slot("digest", NOW + 10, None)
    assert other.crons() == [
        CronRow("digest", "0 2 * * *", "Europe/Berlin", NOW, NOW + 10),
        CronRow("report", "every 5", "UTC", NOW + 1, NOW + 1),
    ]


@pytest.mark.parametrize("changed", [("0 3 * * *", "UTC"), ("0 2 * * *", "Europe/Berlin")])
def test_a_changed_cron_begins_anew(store: Store, changed: tuple[str, str]) -> None:
    store.see_cron("digest", "0 2 * * *", "UTC", NOW)
    assert store.see_cron("digest", *changed, NOW + 50) == NOW + 50
    assert store.see_cron("digest", *changed, NOW + 60) == NOW + 50
    assert not store.take_slot("digest", NOW + 50, None)


def test_89_a_cron_is_brought_back_from_a_time_that_was_not(store: Store, other: Store, epoch: int) -> None:
    day, year = 86_400 * SECOND, 365 * 86_400 * SECOND
    for name in ("digest", "report"):
        store.see_cron(name, "* * * * *", "UTC", NOW)
    ran, waits = (job(task="digest", kind="cron", due=NOW + year + number) for number in range(2))
    assert store.take_slot("digest", NOW + year, ran)
    [running] = store.claim(OWNER, epoch, 9, NOW + year)
    store.settle([running._replace(state="done")], epoch)
    assert store.take_slot("digest", NOW + year + 1, waits)
    call = job(task="digest", due=NOW + year)
    store.enqueue([call])
    assert store.take_slot("report", NOW + day, None)

    assert other.see_cron("digest", "* * * * *", "UTC", NOW + 5) == NOW + 4
    assert other.see_cron("digest", "* * * * *", "UTC", NOW + 6) == NOW + 4
    assert other.see_cron("report", "* * * * *", "UTC", NOW) == NOW + day  # set back by no more than a day
    cancelled = stored(store, waits)
    assert (cancelled.state, cancelled.reason, cancelled.finished) == (
        "cancelled", "stored by a clock that was ahead", NOW + 5,
    )  # fmt: skip
    assert (stored(store, ran).state, stored(store, call).state) == ("done", "waiting")
    # The slot comes, and its job is there already.
    assert store.take_slot("digest", NOW + year, ran._replace(state="waiting"))
    assert stored(store, ran).state == "done"


def test_89_a_clock_that_does_not_know_the_time_brings_nothing_back(store: Store) -> None:
    store.see_cron("digest", "* * * * *", "UTC", NOW)
    assert store.see_cron("digest", "* * * * *", "UTC", 5 * SECOND) == NOW


def test_a_slot_is_taken_once_and_in_order(store: Store, other: Store) -> None:
    store.see_cron("digest", "* * * * *", "UTC", NOW)
    first, second = job(kind="cron"), job(kind="cron")
    assert store.take_slot("digest", NOW + 20, first)
    assert not other.take_slot("digest", NOW + 20, second)
    assert not other.take_slot("digest", NOW + 10, second)
    assert not store.take_slot("no such cron", NOW + 30, second)
    assert [each.id for each in store.jobs()] == [first.id]
    assert other.take_slot("digest", NOW + 30, second)
    assert store.counts() == {"waiting": 2}


def test_of_many_processes_one_takes_each_slot(store: Store) -> None:
    store.see_cron("digest", "* * * * *", "UTC", NOW)
    slots = range(NOW + 1, NOW + 11)

    def take_all() -> list[int]:
        return [slot for slot in slots if store.take_slot("digest", slot, job(due=slot))]

    shares = at_once([take_all] * 6)
    taken = sorted(slot for share in shares for slot in share)
    assert len(taken) == len(set(taken))
    assert taken[-1] == slots[-1]
    assert sorted(each.due for each in store.jobs()) == taken


# -- settings -------------------------------------------------------------------------------------------


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


# -- many at once ---------------------------------------------------------------------------------------


def test_what_many_threads_enqueue_is_all_there(store: Store) -> None:
    answers: list[str] = []

    def enqueue() -> None:
        for _ in range(20):
            answers.extend(store.enqueue([job(), job()]))

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8 * 20 * 2
    assert sorted(each.id for each in store.jobs(limit=1000)) == sorted(answers)


def test_a_forked_child_and_its_parent_both_use_the_store(store: Store) -> None:
    def enqueue() -> list[str]:
        return [store.enqueue([job()])[0] for _ in range(10)]

    ids = enqueue()
    children = [Child(enqueue) for _ in range(3)]
    ids += enqueue()
    for child in children:
        ids += child.result()
    ids += enqueue()
    assert sorted(each.id for each in store.jobs()) == sorted(ids)
    assert len(set(ids)) == 60


def test_a_process_that_is_killed_in_a_batch_leaves_nothing(store: Store, epoch: int) -> None:
    store.enqueue([job()])

    def die() -> None:
        with store.batch():
            store.enqueue([job()])
            store.claim(OWNER, epoch, 9, NOW)
            os.kill(os.getpid(), 9)

    with pytest.raises(pytest.fail.Exception, match="killed"):
        Child(die).result()
    assert store.counts() == {"waiting": 1}
    assert len(store.claim(OWNER, epoch, 9, NOW)) == 1
