"""The contract of `Store`: the way of a job from its claim to its end."""

from __future__ import annotations

import pytest
from any_store import OWNER, epoch, other, place, store, stored  # noqa: F401
from places import NOW, at_once, job

from autocron_web.jobs import UNKNOWN_TASK
from autocron_web.store import Recovery, Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


# -- claims ----------------------------------------------------------------------------------------


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


def test_a_job_from_before_the_clock_was_set_back_waits_until_its_moment_comes_again(
    store: Store, epoch: int
) -> None:
    waiting = job(due=NOW)
    store.enqueue([waiting])
    assert store.claim(OWNER, epoch, 1, NOW - 3600) == []
    assert store.next_due(NOW - 3600) == NOW
    assert [each.id for each in store.claim(OWNER, epoch, 1, NOW)] == [waiting.id]


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


# -- the end of a job ------------------------------------------------------------------------------


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


def test_jobs_that_are_done_are_settled_with_all_that_came_out_of_them(store: Store, epoch: int) -> None:
    store.enqueue([job() for _ in range(5)])
    plain, empty, large, odd, failed = store.claim(OWNER, epoch, 5, NOW)
    ends = [
        plain._replace(state="done", finished=NOW + 1, expires=NOW + 9, result=b"1"),
        empty._replace(state="done", finished=NOW + 2, result=None),
        large._replace(state="done", finished=NOW + 3, result=bytes(range(256)) * 1000, output="a\nb"),
        failed._replace(state="error", error="after the others"),
        odd._replace(
            state="done", finished=1 << 60, result=b"\0", output='"\U0001f600 \\n\x01ü', reason="'; --",
            error_type="E", error="of an earlier try", meta={"progress": [1, None, "ü\0"], "x": 0.1},
        ),
    ]  # fmt: skip
    assert store.settle(ends, epoch) == 5
    for end in ends:
        assert stored(store, end) == end._replace(owner=None, epoch=None)


def test_annotate_replaces_meta_of_a_job_that_runs_under_the_epoch(store: Store, epoch: int) -> None:
    store.enqueue([job(meta={"a": 1}), job()])
    [running] = store.claim(OWNER, epoch, 1, NOW)
    assert store.annotate(running.id, epoch, {"progress": [3, 10, "ü"]})
    assert stored(store, running) == running._replace(meta={"progress": [3, 10, "ü"]})
    assert not store.annotate(running.id, epoch + 1, {})
    assert not store.annotate("no such job", epoch, {})
    store.settle([running._replace(state="done")], epoch)
    assert not store.annotate(running.id, epoch, {"late": 1})


# -- recovery --------------------------------------------------------------------------------------


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


def test_recover_counts_interruptions_and_not_what_else_ended_an_attempt(store: Store, epoch: int) -> None:
    often = {"retries": 50, "failures": 20, "progress": [1, None, None]}
    tried, crashed, given_up = jobs = [
        job(attempt=20, meta=often),
        job(attempt=22, crashes=2, meta=often),
        job(attempt=24, crashes=2, meta=often),
    ]
    store.enqueue(jobs)
    store.claim(OWNER, epoch, 3, NOW)
    new = store.take_epoch(OWNER)
    assert store.recover(OWNER, new, NOW + 9, 3) == Recovery(waiting=2, failed=1)
    for kept in (tried, crashed):
        found = stored(store, kept)
        assert (found.state, found.attempt, found.meta) == ("waiting", kept.attempt + 1, often)
    found = stored(store, given_up)
    assert (found.state, found.error) == ("error", "interrupted: the pool ended while it ran, 3 times")
    assert (found.owner, found.epoch, found.attempt, found.crashes) == (None, None, 25, 2)


def test_recover_ends_jobs_that_were_interrupted_too_often(store: Store, epoch: int) -> None:
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


# -- what comes next -------------------------------------------------------------------------------


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
