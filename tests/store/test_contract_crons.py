"""The contract of `Store`: the slots of crons."""

from __future__ import annotations

import pytest
from any_store import OWNER, epoch, other, place, store, stored  # noqa: F401
from places import NOW, at_once, job

from autocron_web.jobs import SECOND
from autocron_web.store import CronRow, Store

pytestmark = pytest.mark.once  # nothing here depends on the version of Python


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
