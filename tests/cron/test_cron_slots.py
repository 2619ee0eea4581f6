"""`every`, and missed slots: the sentences of docs/cron.md. Fault 89, by clocks that are arguments."""

from __future__ import annotations

import bisect
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cron_cases import MINUTE, UTC, at, contract, parse, slots
from hypothesis import given, settings
from hypothesis import strategies as st

from autocron_web.crontab import Missed, Schedule
from autocron_web.decorators import Cron
from autocron_web.errors import ConfigError
from autocron_web.options import Options
from autocron_web.pool import dispatch, timetable
from autocron_web.slots import Due, Every, due_slot, schedule_of, slot_job
from autocron_web.store.sqlite import SqliteStore

# -- every -----------------------------------------------------------------------------------------------

moments = st.integers(0, 4_000_000_000_000_000).map(
    lambda micro: dt.datetime(1970, 1, 1, tzinfo=UTC) + dt.timedelta(microseconds=micro)
)


@contract.holds(
    "The slots of `every` are the multiples of its seconds since 1970-01-01 UTC, on all machines.",
    "`seconds` is 1 or more, and may have a fraction.",
    "Daylight saving does not touch it.",
)
@given(st.integers(1, 10**6) | st.floats(1, 10**6), moments)
@settings(max_examples=300, deadline=None)
def test_every(seconds: float, moment: dt.datetime) -> None:
    schedule = Every(seconds)
    period = dt.timedelta(seconds=seconds)
    first, second = slots(schedule, moment, 2)
    assert first - moment <= period
    assert first > moment
    assert second - first == period
    assert (first - dt.datetime(1970, 1, 1, tzinfo=UTC)) % period == dt.timedelta(0)
    again = schedule_of(schedule.canonical, schedule.zone_name)
    assert again.canonical == schedule.canonical
    assert again.next_after(moment) == first


def test_every_is_written_in_one_way() -> None:
    assert [Every(seconds).canonical for seconds in (60, 60.0, 1.5, 1234567)] == [
        "every 60", "every 60", "every 1.5", "every 1234567",
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0, 0.5, -1, True, "60", None, float("nan"), float("inf")])
def test_every_refuses(seconds: Any) -> None:
    with pytest.raises(ConfigError, match=r"seconds is .*: give a number of seconds, 1 or more"):
        Every(seconds)


# -- missed slots ----------------------------------------------------------------------------------------


class Counted:
    """A schedule that counts how often it is asked."""

    canonical, zone_name = "", "UTC"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.asked = schedule, 0

    def next_after(self, moment: dt.datetime) -> dt.datetime:
        self.asked += 1
        return self.schedule.next_after(moment)

    def in_words(self) -> str:
        return ""


@contract.holds(
    "A slot that is at most a minute late is not missed, and runs.",
    '`missed="once"`: the latest of them runs, if it is not older than `catch_up` seconds.',
    '`missed="skip"`: none of them runs.',
)
def test_missed_slots() -> None:
    daily = parse("0 2 * * *")
    first_seen = at("2026-01-01T12:00")

    def due(now: str, missed: Missed = "once", catch_up: float = 3600.0) -> dt.datetime | None:
        return due_slot(daily, last_slot=first_seen, now=at(now), missed=missed, catch_up=catch_up).slot

    slot = at("2026-01-04T02:00")
    assert (
        due("2026-01-04T02:00")
        == due("2026-01-04T02:01", "skip")
        == due("2026-01-04T02:01", "once", 0)
        == slot
    )
    assert due("2026-01-04T02:01:01", "skip") is due("2026-01-04T02:01:01", "once", 0) is None
    assert due("2026-01-04T03:00") == due("2026-01-04T09:00", "once", 7 * 3600) == slot
    assert due("2026-01-04T03:00:01") is None
    assert due("2026-01-02T01:59:59", "once", 10**12) is None
    assert due("2026-01-04T09:00", "once", float("inf")) == slot


@contract.holds("A slot from before the cron was first seen never runs.")
def test_nothing_from_before_the_cron_was_first_seen() -> None:
    now = at("2026-01-01T02:00:30")
    daily = parse("0 2 * * *")
    assert due_slot(daily, last_slot=now, now=now) == Due(None, at("2026-01-02T02:00"))
    assert due_slot(daily, last_slot=at("2026-01-01T02:00"), now=now, catch_up=1e9) == Due(
        None, at("2026-01-02T02:00")
    )


@pytest.mark.once
@given(
    st.sampled_from([Every(1), Every(7.5), Every(86400), parse("*/7 3-5 * * *"), parse("0 0 * * 31")]),
    moments,
    st.integers(-(10**5), 10**6) | st.floats(-100, 400),
    st.sampled_from(["once", "skip"]),
    st.integers(0, 10**6) | st.floats(0, 100),
)
@settings(max_examples=300, deadline=None)
def test_due_slot_against_going_through_all(
    schedule: Schedule, last: dt.datetime, passed: float, missed: Missed, catch_up: float
) -> None:
    now = last + dt.timedelta(seconds=min(passed, 3000 if isinstance(schedule, Every) else 10**6))
    counted = Counted(schedule)
    due = due_slot(counted, last_slot=last, now=now, missed=missed, catch_up=catch_up)
    latest, following = None, schedule.next_after(last)
    while following <= now:
        latest, following = following, schedule.next_after(following)
    patience = 60 if missed == "skip" else max(60, catch_up)
    expected = latest if latest and now - latest <= dt.timedelta(seconds=patience) else None
    assert due == Due(expected, following)
    assert counted.asked < 30


@contract.holds(
    "However many were missed, there is at most one run.",
    "If the clock is set back, no slot runs twice: the next one is the first after the last one that ran.",
)
@given(st.lists(st.sampled_from([1, 20, 59, 61, 600, 5000, 90_000, -1, -59, -3600, -90_000]), max_size=60))
@settings(max_examples=100, deadline=None)
def test_89_a_clock_that_is_set(steps: list[int]) -> None:
    """As the pool does it: look, run what is due, look again at the next slot or when the clock was set."""
    for schedule in (Every(60), parse("*/10 * * * *")):
        now = last = at("2026-03-01T12:00:30")
        ran = [last]
        for step in steps:
            now += dt.timedelta(seconds=step)
            due = due_slot(schedule, last_slot=last, now=now, catch_up=10**6)
            if due.slot:
                last = due.slot
                ran.append(last)
            assert due_slot(schedule, last_slot=last, now=now, catch_up=10**6).slot is None  # one at a time
            assert due.following > max(now, last)  # so that nobody waits in vain or looks without end
            now = now if step < 0 else max(now, min(due.following, now + 60 * MINUTE))
        assert ran == sorted(set(ran))


DAY = dt.timedelta(days=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


def micro(moment: dt.datetime) -> int:
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def date(microseconds: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=microseconds)


@contract.holds(
    "If it is set back by more than a day, it was wrong before, and crons go on from what it shows now.",
    "A slot that ran ahead of its time does not run again, as long as the job of its run is kept.",
    "A clock that shows a time before 2026 is wrong itself, and no cron goes back to it.",
)
@pytest.mark.parametrize("ahead", [dt.timedelta(hours=1), DAY, 2 * DAY, 3650 * DAY], ids=str)
def test_89_a_clock_that_was_ahead(tmp_path: Path, ahead: dt.timedelta) -> None:
    """As the pool does it: see the cron, take what is due, see it again when the clock has been set."""
    store = SqliteStore(tmp_path / "crons.db")
    daily = Cron("digest", parse("0 2 * * *"), "once", 3600.0, "skip")
    ran: list[str] = []
    epoch = store.take_epoch("here")

    def look(now: dt.datetime) -> None:
        last = store.see_cron("digest", daily.schedule.canonical, "UTC", micro(now))
        due = due_slot(daily.schedule, last_slot=date(last), now=now)
        if due.slot:
            store.take_slot("digest", micro(due.slot), slot_job(daily, Options(), micro(due.slot)))
        claimed = store.claim("here", epoch, 9, micro(now))
        store.settle([job._replace(state="done") for job in claimed], epoch)
        ran.extend(f"{date(job.due):%m-%d}" for job in claimed)

    right = at("2026-11-24T12:00")
    look(right + ahead - DAY)  # first seen
    look((right + ahead).replace(hour=2))  # by the clock that is ahead
    assert len(ran) == 1
    for _ in range(2):
        look(at("1970-01-01T00:05"))  # before the machine has heard what time it is
        look(right)
    for day in range(1, 4):
        look((right + day * DAY).replace(hour=2))
    store.close()
    days = [f"11-{day}" for day in (25, 26, 27)]
    if ahead <= DAY:
        assert ran == [ran[0], *(day for day in days if day > ran[0])]  # it waits for the first later one
    else:
        assert ran == [ran[0], *(day for day in days if day != ran[0])]


@contract.holds("A clock that is set while the pool runs is noticed within a minute.")
def test_89_the_pool_looks_at_the_clock_each_minute() -> None:
    assert timetable.LONGEST_SLEEP <= 60
    assert dispatch.LONGEST_SLEEP <= 60


def test_89_missed_slots_while_the_clock_was_set() -> None:
    crontab = parse("*/7 * * * *", tz="Europe/Berlin")
    for change in ("2026-03-29T01:00", "2026-10-25T01:00"):
        last = at(change, "Europe/Berlin") - dt.timedelta(days=1)
        everything = slots(crontab, last, 400)
        for now in (at(change) + 5 * number * MINUTE for number in range(-30, 30)):
            due = due_slot(crontab, last_slot=last, now=now.astimezone(last.tzinfo), catch_up=10**6)
            index = bisect.bisect_right(everything, now)
            assert due == Due(everything[index - 1], everything[index])


def test_years_of_missed_slots_cost_nothing() -> None:
    counted = Counted(Every(1))
    now = at("2026-01-01T00:00:00.5")
    due = due_slot(counted, last_slot=at("1990-01-01"), now=now, catch_up=float("inf"))
    assert due == Due(at("2026-01-01"), at("2026-01-01T00:00:01"))
    assert counted.asked < 40
