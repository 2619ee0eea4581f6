"""What the tests of crons share: short words, and a reference that knows every minute of ten years."""

from __future__ import annotations

import datetime as dt
import functools
import random
import zoneinfo
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from autocron_web.crontab import Crontab, Schedule
from contract import Contract

contract = Contract("cron.md")

UTC = dt.UTC
MINUTE = dt.timedelta(minutes=1)


def at(text: str, zone: str = "UTC") -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone))


def slots(schedule: Schedule, start: dt.datetime, count: int) -> list[dt.datetime]:
    """The next slots; in UTC, since in an hour that comes twice no other zone's are equal (PEP 495)."""
    found = []
    for _ in range(count):
        start = schedule.next_after(start).astimezone(UTC)
        found.append(start)
    return found


def shown(schedule: Schedule, start: dt.datetime, count: int) -> list[str]:
    """What the clock of the schedule's zone shows at the next slots."""
    zone = schedule.next_after(start).tzinfo
    return [f"{slot.astimezone(zone):%m-%d %H:%M}" for slot in slots(schedule, start, count)]


def parse(expression: str, order: Literal["autocron", "unix"] = "autocron", tz: str = "UTC") -> Crontab:
    return Crontab.parse(expression, order=order, tz=tz)


# -- the reference: every minute of ten years ------------------------------------------------------------

# In minutes since 1970. The clocks of these zones are set at quarters of an hour only, so what they show
# is asked for each quarter.
QUARTER, HOUR, DAY = 15, 60, 24 * 60
FIRST, LAST = (int(at(day).timestamp()) // 60 for day in ("2020-01-01", "2030-01-01"))
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # set by half an hour
    "America/Santiago",  # set at midnight: some days have no 00:00
    "America/Havana",  # 00:00 to 00:59 comes twice
    "Africa/Casablanca",  # set back for Ramadan
    "Asia/Kolkata",
)


def minutes_since_1970(naive: dt.datetime) -> int:
    return (naive - dt.datetime.fromisoformat("1970-01-01")) // MINUTE


@functools.cache
def quarters(zone: str) -> list[tuple[int, int]]:
    """Each quarter of an hour: its first minute since 1970, in real time and on the zone's clock."""
    info = zoneinfo.ZoneInfo(zone)

    def wall_of(real: int) -> int:
        return minutes_since_1970(dt.datetime.fromtimestamp(60 * real, info).replace(tzinfo=None))

    found = []
    wall = wall_of(FIRST)
    for real in range(FIRST, LAST + 40 * DAY, HOUR):
        following = wall_of(real + HOUR)
        steady = following == wall + HOUR
        found += [
            (real + part, wall + part if steady else wall_of(real + part)) for part in range(0, HOUR, QUARTER)
        ]
        wall = following
    return found


@functools.cache
def changes(zone: str) -> list[int]:
    """The minutes at which the clock is set."""
    return [now for (_, before), (now, wall) in pairwise(quarters(zone)) if wall - before != QUARTER]


class Rule(NamedTuple):
    """What a crontab means, made beside its text and not from it."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    days_of_week: frozenset[int] | None  # 0 is Monday
    by_real_time: bool
    allowed_days: frozenset[int]  # numbered since 1970

    def allows_day(self, number: int) -> bool:
        """Whether the day with this number since 1970 is allowed."""
        day = dt.date(1970, 1, 1) + dt.timedelta(days=number)
        by_day = self.days is None or day.day in self.days
        by_day_of_week = self.days_of_week is None or day.weekday() in self.days_of_week
        if self.days is not None and self.days_of_week is not None:
            return day.month in self.months and (by_day or by_day_of_week)
        return day.month in self.months and by_day and by_day_of_week

    def run_after(self, zone: str, moment: float) -> int | None:
        """The first run after a moment, in minutes since 1970, by a look at the clock in every minute."""
        grid, start = quarters(zone), (int(moment) - FIRST) // QUARTER
        latest = max(wall for _, wall in grid[max(0, start - 400) : start]) + QUARTER - 1  # shown until now
        for index in range(start, len(grid)):
            real, wall = grid[index]
            if not self.by_real_time and wall > latest + 1:
                skipped = range(latest + 1, wall, QUARTER)
                if real > moment and any(self.allowed_from(each) for each in skipped):
                    return real
            for minute in self.allowed_from(wall) if wall // DAY in self.allowed_days else ():
                if real + minute > moment and (self.by_real_time or wall + minute > latest):
                    return real + minute
            latest = max(latest, wall + QUARTER - 1)
        return None

    def allowed_from(self, wall: int) -> list[int]:
        """The allowed minutes of the quarter that begins at this minute of the clock."""
        hour, minute = divmod(wall % DAY, HOUR)
        if wall // DAY not in self.allowed_days or hour not in self.hours:
            return []
        return [each for each in range(QUARTER) if minute + each in self.minutes]


def rule_of(**given: Any) -> Rule:
    rule = Rule(**given, allowed_days=frozenset())
    return rule._replace(
        allowed_days=frozenset(filter(rule.allows_day, range(FIRST // DAY - 1, LAST // DAY + 42)))
    )


def random_field(choose: random.Random, low: int, high: int) -> tuple[str, frozenset[int]]:
    """A text for a field, and the numbers that it stands for."""
    numbers = range(low, high + 1)

    def one_term() -> tuple[str, set[int]]:
        a, b = sorted((choose.choice(numbers), choose.choice(numbers)))
        step = choose.randint(1, max(1, (high - low) // 2))
        return choose.choice(
            [
                (f"{a}", {a}),
                (f"{a:02}", {a}),
                (f"{a}-{b}", set(range(a, b + 1))),
                (f"{a}-{b}/{step}", set(range(a, b + 1, step))),
                (f"{a}/{step}", set(range(a, high + 1, step))),
                (f"*/{step}", set(numbers[::step])),
            ]
        )

    if choose.random() < 0.4:
        return "*", frozenset(numbers)
    terms = [one_term() for _ in range(choose.choice([1, 1, 1, 2, 3]))]
    return ",".join(text for text, _ in terms), frozenset().union(*(values for _, values in terms))


def is_set(text: str, numbers: frozenset[int], high: int) -> bool:
    return not ("*" in text and len(numbers) == high)


def random_crontab(choose: random.Random) -> tuple[str, str, Rule]:
    """A crontab in the order of autocron, the same in that of crontab(5), and what it means."""
    minutes, hours = random_field(choose, 0, 59), random_field(choose, 0, 23)
    days, months, days_of_week = (
        random_field(choose, 1, 31),
        random_field(choose, 1, 12),
        random_field(choose, 0, 6),
    )
    if choose.random() < 0.3:  # the hours at which clocks are set
        hours = choose.choice([("2", frozenset({2})), ("0", frozenset({0})), ("0-3", frozenset(range(4)))])
    days_set, days_of_week_set = is_set(*days, 31), is_set(*days_of_week, 7)
    rule = rule_of(
        minutes=minutes[1],
        hours=hours[1],
        days=days[1] if days_set else None,
        months=months[1],
        days_of_week=days_of_week[1] if days_of_week_set else None,
        by_real_time="*" in minutes[0] or "*" in hours[0],
    )
    unix_dow = ",".join(str((n + 1) % 7) for n in days_of_week[1]) if days_of_week_set else "*"
    return (
        f"{minutes[0]} {hours[0]} {days_of_week[0]} {months[0]} {days[0]}",
        f"{minutes[0]} {hours[0]} {days[0]} {months[0]} {unix_dow}",
        rule,
    )


AROUND = (-DAY, -120, -60.5, -60, -30, -1, -1 / 60, 0, 1 / 60, 1, 29.5, 30, 60, 90, DAY)


def check(crontabs: list[Schedule], rule: Rule, zone: str, choose: random.Random) -> None:
    """Ask after random moments, and around some at which the clock is set."""
    moments = [choose.uniform(FIRST + 9 * DAY, LAST) for _ in range(30)]
    near = choose.sample(changes(zone), min(5, len(changes(zone))))
    moments += [change + distance for change in near for distance in AROUND if change + distance < LAST]
    for moment in moments:
        asked = dt.datetime.fromtimestamp(60 * moment, UTC)
        expected = rule.run_after(zone, moment)
        for crontab in crontabs:
            found = crontab.next_after(asked).timestamp() / 60
            if expected is not None or found < LAST:
                assert found == expected, f"after {asked} in {zone}"
