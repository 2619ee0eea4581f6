"""When crons run: against a reference that looks at every minute, and on the days when clocks change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from autocron_web.crontab import Crontab
from autocron_web.errors import ConfigError
from autocron_web.slots import Every, due_slot, schedule_of

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2024, 1, 1, tzinfo=UTC)


def runs(crontab: Crontab, after: datetime, count: int) -> list[datetime]:
    """The next slots, in UTC."""
    found = []
    for _ in range(count):
        after = crontab.next_after(after)
        found.append(after.astimezone(UTC))
    return found


# -- a reference of a few lines: which minutes does an expression allow? ---------------------------


def numbers(text: str, low: int, high: int) -> set[int]:
    allowed: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or (high if step else first)))
        allowed |= set(range(begin, end + 1, int(step or 1)))
    return allowed


def allows(fields: list[str], moment: datetime) -> bool:
    """Of `minutes hours dow months dom`, with Monday as 0; both day fields set means either."""
    minutes, hours, dow, months, dom = fields
    if moment.minute not in numbers(minutes, 0, 59) or moment.hour not in numbers(hours, 0, 23):
        return False
    if moment.month not in numbers(months, 1, 12):
        return False
    weekday = moment.weekday() in numbers(dow, 0, 6)
    day = moment.day in numbers(dom, 1, 31)
    if len(numbers(dow, 0, 6)) == 7:
        return day
    if len(numbers(dom, 1, 31)) == 31:
        return weekday
    return weekday or day


def some_field(random: random.Random, low: int, high: int, stars: float) -> str:
    if random.random() < stars:
        return random.choice(["*", f"*/{random.randint(2, 6)}"])
    first = random.randint(low, high)
    last = random.randint(first, high)
    return random.choice(
        [str(first), f"{first}-{last}", f"{first},{random.randint(low, high)}", f"{first}-{last}/2"]
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_next_run_is_the_next_minute_that_the_expression_allows(seed: int) -> None:
    choose = random.Random(seed)
    fields = [
        some_field(choose, 0, 59, 0.2),
        some_field(choose, 0, 23, 0.3),
        some_field(choose, 0, 6, 0.5),
        some_field(choose, 1, 12, 0.6),
        some_field(choose, 1, 28, 0.5),
    ]
    crontab = Crontab.parse(" ".join(fields), tz="UTC")
    moment = START + timedelta(minutes=choose.randrange(10 * 525_960))
    for _ in range(3):
        run = crontab.next_after(moment)
        minute = moment.replace(second=0, microsecond=0)
        while True:
            minute += timedelta(minutes=1)
            # whole days that have no run are passed over, so that years take no time
            if minute.hour == minute.minute == 0 and not day_allowed(fields, minute):
                minute += timedelta(days=1, minutes=-1)
                continue
            if allows(fields, minute):
                break
        assert run == minute, fields
        moment = run


def day_allowed(fields: list[str], moment: datetime) -> bool:
    return allows(["*", "*", *fields[2:]], moment)


def test_cronsim_agrees_where_its_rules_are_the_same() -> None:
    choose = random.Random(7)
    for _ in range(200):
        minute, hour = choose.randrange(60), choose.randrange(24)
        dom, month = choose.randrange(1, 29), choose.choice(["*", "2", "3-9"])
        moment = START + timedelta(minutes=choose.randrange(10 * 525_960))
        ours = Crontab.parse(f"{minute} {hour} {dom} {month} *", order="unix", tz="UTC").next_after(moment)
        assert ours == next(CronSim(f"{minute} {hour} {dom} {month} *", moment))


def test_the_two_orders_name_the_same_days() -> None:
    ours = Crontab.parse("30 9 0,2 * *", tz="UTC")
    unix = Crontab.parse("30 9 * * mon,wed", order="unix", tz="UTC")
    assert ours.canonical == unix.canonical
    assert (
        Crontab.parse("0 0 6 * *", tz="UTC").canonical == Crontab.parse("0 0 * * 7", order="unix").canonical
    )
    assert (
        Crontab.parse("0 0 6 * *", tz="UTC").canonical == Crontab.parse("0 0 * * 0", order="unix").canonical
    )


def test_both_day_fields_mean_either() -> None:
    """The original's example: 9:00 every Monday, and on the 10th to the 15th, in April and July."""
    crontab = Crontab.parse("0 9 0 4,7 10-15", tz="UTC")
    days = [run.day for run in runs(crontab, datetime(2026, 4, 1, tzinfo=UTC), 9)]
    assert days == [6, 10, 11, 12, 13, 14, 15, 20, 27]


def test_a_step_in_a_day_field_means_either_too() -> None:
    crontab = Crontab.parse("0 0 0 * */10", tz="UTC")
    days = [run.day for run in runs(crontab, datetime(2026, 6, 1, tzinfo=UTC), 6)]
    assert days == [8, 11, 15, 21, 22, 29]


def test_keywords_say_the_same_as_an_expression() -> None:
    assert Crontab.of(minutes=[0, 30], hours=[9], dow=["mon"], tz="UTC").canonical == "0,30 9 * * mon"
    assert Crontab.of(tz="UTC").canonical == "* * * * *"


def test_the_29th_of_february_comes_every_fourth_year() -> None:
    years = [run.year for run in runs(Crontab.parse("0 0 * 2 29", tz="UTC"), START, 3)]
    assert years == [2024, 2028, 2032]


def test_a_fixed_time_in_the_gap_runs_once_when_the_clock_is_set() -> None:
    crontab = Crontab.parse("30 2 * * *", tz="Europe/Berlin")
    found = runs(crontab, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert found == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)]


def test_a_fixed_time_in_the_repeated_hour_runs_once() -> None:
    crontab = Crontab.parse("30 2 * * *", tz="Europe/Berlin")
    found = runs(crontab, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert found == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]
    # also if it is asked for in the middle of the repeated hour
    assert runs(crontab, datetime(2026, 10, 25, 0, 45, tzinfo=UTC), 1) == found[1:]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]
)
def test_every_half_hour_is_real_time_whatever_the_clock_does(zone: str) -> None:
    """For a year: no gap, no double, also where clocks are set by half an hour or at midnight."""
    crontab = Crontab.parse("*/30 * * * *", tz=zone)
    found = runs(crontab, START, 17_600)
    assert {later - sooner for sooner, later in pairwise(found)} == {timedelta(minutes=30)}


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]
)
@pytest.mark.parametrize("hour", [0, 1, 2, 3])
def test_a_daily_time_runs_on_every_day_once(zone: str, hour: int) -> None:
    crontab = Crontab.parse(f"15 {hour} * * *", tz=zone)
    days = [run.astimezone(ZoneInfo(zone)).date() for run in runs(crontab, START, 800)]
    assert {later - sooner for sooner, later in pairwise(days)} == {timedelta(days=1)}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", "minutes: 61 is not in 0–59"),
        ("* 24 * * *", "hours: 24 is not in 0–23"),
        ("* * * 13 *", "months: 13 is not in 1–12"),
        ("* * * * 0", "days: 0 is not in 1–31"),
        ("* * 7 * *", "days_of_week: 7 is not in 0–6"),
        ("a * * * *", "minutes: 'a' is not a number"),
        ("* * * *", "has 4 fields, and a crontab has five"),
        ("", "has 0 fields"),
        ("5-2 * * * *", "minutes: 5-2 ends before it begins"),
        ("*/0 * * * *", "minutes: the step '0'"),
        ("0 0 * feb 30", "days: 30 never comes in feb"),
    ],
)
def test_a_wrong_crontab_names_field_value_and_range(expression: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.parse(expression)
    assert words in str(caught.value)


# -- slots: what is to run now ---------------------------

HOURLY = Crontab.parse("0 * * * *", tz="UTC")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_nothing_runs_before_the_cron_was_first_seen() -> None:
    due = due_slot(
        HOURLY,
        last_slot=NOON + timedelta(minutes=1),
        now=NOON + timedelta(minutes=30),
        missed="once",
        catch_up=3600,
    )
    assert due == (None, NOON + timedelta(hours=1))


def test_of_many_missed_runs_the_latest_is_made_up_for() -> None:
    now = NOON + timedelta(minutes=20)
    due = due_slot(HOURLY, last_slot=NOON - timedelta(days=3), now=now, missed="once", catch_up=3600)
    assert due == (NOON, NOON + timedelta(hours=1))


def test_a_run_that_was_missed_too_long_ago_is_skipped() -> None:
    now = NOON + timedelta(minutes=20)
    due = due_slot(HOURLY, last_slot=NOON - timedelta(days=3), now=now, missed="once", catch_up=600)
    assert due == (None, NOON + timedelta(hours=1))


def test_skip_runs_only_what_is_punctual() -> None:
    last = NOON - timedelta(days=1)
    late = due_slot(HOURLY, last_slot=last, now=NOON + timedelta(minutes=2), missed="skip", catch_up=3600)
    punctual = due_slot(HOURLY, last_slot=last, now=NOON + timedelta(seconds=5), missed="skip", catch_up=3600)
    assert (late.slot, punctual.slot) == (None, NOON)


def test_a_clock_that_was_set_back_runs_no_slot_twice() -> None:
    due = due_slot(HOURLY, last_slot=NOON, now=NOON - timedelta(minutes=59), missed="once", catch_up=3600)
    assert due == (None, NOON + timedelta(hours=1))


def test_every_has_the_same_slots_in_every_process() -> None:
    every = Every(45)
    found = [every.next_after(NOON + timedelta(seconds=offset)) for offset in (0, 10, 44.9)]
    assert len(set(found)) == 1
    assert found[0].timestamp() % 45 == 0
    assert every.next_after(found[0]) - found[0] == timedelta(seconds=45)
    with pytest.raises(ConfigError, match="seconds is 0"):
        Every(0)


@pytest.mark.parametrize("schedule", [HOURLY, Every(90), Crontab.parse("5 2 0 * 3-9/2", tz="Europe/Berlin")])
def test_a_schedule_is_made_again_from_its_text(schedule: Crontab | Every) -> None:
    again = schedule_of(schedule.canonical, schedule.zone_name)
    assert again.next_after(NOON) == schedule.next_after(NOON)
