"""The contract of docs/cron.md, and a reference that goes through ten years minute by minute."""

from __future__ import annotations

import bisect
import contextlib
import datetime as dt
import functools
import random
import re
import time
import zoneinfo
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from autocron_web.cronfields import HOURS, MINUTES, UNIX_DAYS_OF_WEEK, from_text, to_text
from autocron_web.crontab import Crontab, Missed, Schedule
from autocron_web.errors import ConfigError
from autocron_web.slots import Due, Every, due_slot, schedule_of
from autocron_web.timezones import machine_zone, zone_of
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


# -- the reference: every minute of ten years --------------------------------------------------------------

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


@contract.holds(
    "With a `*` in minutes or hours it runs whenever the clock shows an allowed time: not in a skipped hour, "
    "twice in a repeated one.",
    "If both are set, a day that either of them allows is enough.",
    "If one day field is set, it decides.",
    "A day that a month does not have is left out, and does not move to another one.",
)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("seed", range(2))
def test_ten_years_minute_by_minute(zone: str, seed: int) -> None:
    choose = random.Random(f"{zone} {seed}")
    for _ in range(3):
        expression, unix, rule = random_crontab(choose)
        if not rule.allowed_days:
            with pytest.raises(ConfigError, match="never comes"):
                parse(expression)
            continue
        crontab, from_unix = parse(expression, tz=zone), parse(unix, "unix", zone)
        again = schedule_of(crontab.canonical, zone)
        assert again.canonical == crontab.canonical == from_unix.canonical
        check([crontab, from_unix, again], rule, zone, choose)


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0 0 * * *", "*/30 2 * * *", "15 * * * *", "0,30 0-3 * * *"]
)
@pytest.mark.parametrize("zone", ZONES)
def test_each_run_around_the_changes(zone: str, expression: str) -> None:
    minutes, hours = expression.split()[:2]
    rule = rule_of(
        minutes=frozenset(from_text(MINUTES, minutes, "").numbers),
        hours=frozenset(from_text(HOURS, hours, "").numbers),
        days=None,
        months=frozenset(range(1, 13)),
        days_of_week=None,
        by_real_time="*" in minutes + hours,
    )
    crontab = parse(expression, tz=zone)
    for change in changes(zone)[:6] or [FIRST + 99 * DAY]:
        slot, run = dt.datetime.fromtimestamp(60 * (change - DAY), UTC), float(change - DAY)
        while run < change + DAY:
            slot, run = crontab.next_after(slot), rule.run_after(zone, run) or 0
            assert slot.timestamp() == 60 * run


# -- cronsim, where its rules are the same -----------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_cronsim_says_the_same(zone: str) -> None:
    """Left out: steps in day fields, which mean *and* there, and steps in a range of one, which go on to the
    end there; moments in a repeated hour, after which it looks back."""
    one_long = re.compile(r"\b0*(\d+)-0*\1/")
    choose = random.Random(zone)
    compared = 0
    while compared < 40:
        expression, unix, _ = random_crontab(choose)
        with contextlib.suppress(ConfigError):
            crontab = parse(expression, tz=zone)
            if any("*/" in field for field in (unix.split()[2], unix.split()[4])) or one_long.search(unix):
                continue
            compared += 1
            for _ in range(10):
                moment = dt.datetime.fromtimestamp(choose.randrange(1_577_836_800, 1_893_456_000), UTC)
                moment = moment.astimezone(zoneinfo.ZoneInfo(zone))
                theirs = next(CronSim(unix, moment))
                if moment.replace(fold=1).utcoffset() == moment.replace(fold=0).utcoffset():
                    assert crontab.next_after(moment) == theirs, (unix, moment)


# -- writing crontabs --------------------------------------------------------------------------------------


@contract.holds(
    '`cron("…")` reads `minutes hours days_of_week months days`, and 0 is Monday.',
    '`cron(unix="…")` reads `minutes hours days months days_of_week`, and 0 and 7 are Sunday.',
    "A slot is at second 0 of its minute.",
)
def test_the_two_orders() -> None:
    monday = at("2026-11-02T00:00:30.5")
    assert shown(parse("30 9 0,2 * *"), monday, 3) == ["11-02 09:30", "11-04 09:30", "11-09 09:30"]
    for unix in ("30 9 * * 1,3", "30 9 * * mon,wed"):
        assert parse(unix, "unix").canonical == parse("30 9 0,2 * *").canonical == "30 9 * * mon,wed"
    assert (
        parse("0 0 6 * *").canonical
        == parse("0 0 * * 0", "unix").canonical
        == parse("0 0 * * 7", "unix").canonical
    )
    assert parse("0 5 * 3 31").canonical == parse("0 5 31 3 *", "unix").canonical == "0 5 31 3 *"
    assert [slot.second for slot in slots(parse("* * * * *"), monday, 3)] == [0, 0, 0]
    assert parse("* * * * *").next_after(at("2026-01-01T00:00")) == at("2026-01-01T00:01")


@contract.holds(
    "`*` allows all, `5` one, `1,5` each of a list, `9-17` all from 9 to 17.",
    "`*/15` allows every fifteenth from the lowest on, `9-17/2` and `20/10` those from 9 and from 20 on.",
    "Names can be written in capitals, and stand in lists and ranges.",
    "A range up to Sunday, such as `fri-sun`, can be written in both orders.",
)
def test_what_a_field_allows() -> None:
    assert parse("*/15 9-17/2 mon-wed,SAT jan,Mar-may 5/10").canonical == (
        "*/15 9,11,13,15,17 5,15,25 1,3-5 mon-wed,sat"
    )
    crontab = parse("* * * * *")
    fields = crontab.minutes, crontab.hours, crontab.days, crontab.months, crontab.days_of_week
    assert [len(field.numbers) for field in fields] == [60, 24, 31, 12, 7]
    assert parse("20/10 1,5 * * *").minutes.numbers == (20, 30, 40, 50)
    for crontab in (
        parse("0 0 fri-sun * *"),
        parse("0 0 * * fri-sun", "unix"),
        parse("0 0 * * fri-7", "unix"),
    ):
        assert crontab.days_of_week.numbers == (4, 5, 6)
    assert parse("0 0 * * sun-tue", "unix").days_of_week.numbers == (0, 1, 6)
    assert parse("0 0 * * */7", "unix").days_of_week.numbers == (6,)


@given(st.sets(st.integers(0, 59), min_size=1), st.integers(1, 59) | st.none())
@settings(max_examples=200, deadline=None)
def test_a_field_has_one_text_and_reads_it_back(numbers: set[int], step: int | None) -> None:
    text = ",".join(map(str, numbers)) + (f",*/{step}" if step else "")
    values = from_text(MINUTES, text, "")
    assert from_text(MINUTES, to_text(MINUTES, values), "") == values
    assert values.star == bool(step)
    assert set(values.numbers) == numbers | set(range(0, 60, step) if step else ())


def test_each_set_of_days_of_the_week_reads_back() -> None:
    for bits in range(1, 128):
        days = [day for day in range(7) if bits >> day & 1]
        crontab = Crontab.of(days_of_week=days, tz="UTC")
        assert parse(crontab.canonical, "unix").days_of_week.numbers == tuple(days)
    assert from_text(UNIX_DAYS_OF_WEEK, "mon-sun", "").numbers == tuple(range(7))


@contract.holds("`* 2 …` is due 60 times, from 02:00 to 02:59; `0 2 …` once.")
def test_a_star_in_the_minutes_is_sixty_runs() -> None:
    crontab = parse("* 2 * * *")
    found = shown(crontab, at("2026-01-01T00:00"), 61)
    assert (found[0], found[59], found[60]) == ("01-01 02:00", "01-01 02:59", "01-02 02:00")
    assert crontab.in_words() == "60 runs from 02:00 to 02:59 every day"
    assert shown(parse("0 2 * * *"), at("2026-01-01T00:00"), 2) == ["01-01 02:00", "01-02 02:00"]


@contract.holds(
    "`minutes`, `hours`, `days` or `dom`, `months`, and `days_of_week` or `dow` with 0 as Monday.",
    "A keyword takes a number, a name, a list of them, or a text as above; what is left out allows all.",
)
def test_keywords() -> None:
    whole = Crontab.of(minutes=[0, 30], hours=[9], days=[1], months=["jan", 3], days_of_week=[0, "wed"])
    assert whole.canonical == "0,30 9 1 1,3 mon,wed"
    assert Crontab.of(minutes=(0,), dow=0, dom="1-7").canonical == "0 * 1-7 * mon"
    assert Crontab.of(minutes=0, months="jan", dow=range(5)).canonical == "0 * * 1 mon-fri"
    assert Crontab.of(minutes="*/5", hours=["9-17"], dow={"sat"}).canonical == "*/5 9-17 * * sat"
    assert Crontab.of().canonical == "* * * * *"
    assert Crontab.of(hours=[2]).canonical == "* 2 * * *"


@contract.holds("Only a crontab that can be read in both orders, with different slots, is ambiguous.")
def test_ambiguous() -> None:
    for expression in ("0 2 1 * *", "0 2 * * 1", "0 2 * * 1-5", "0 2 */2 * *", "0 2 1 * 2"):
        assert parse(expression).ambiguous, expression
        assert not parse(expression, "unix").ambiguous
    for expression in ("0 2 * * *", "0 2 mon * *", "0 2 * * 20", "0 2 0 * *", "* * * 1 *"):
        assert not parse(expression).ambiguous, expression


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0,30 * * * *", "every 30 minutes"),
        ("0 * * * *", "every hour at minute 0"),
        ("5,10-12 * * * *", "every hour at minutes 5 and 10 to 12"),
        ("0 2 * * *", "at 02:00 every day"),
        ("30 9,17 0-4 * *", "at 09:30 and 17:30 on Monday to Friday"),
        ("0 2 5,6 * *", "at 02:00 on Saturday and Sunday"),
        ("0 2 * * 1,2,3,11,22,31", "at 02:00 on the 1st to 3rd, 11th, 22nd and 31st"),
        ("0 2 0 * 15", "at 02:00 on the 15th and also on Monday"),
        ("0 2 * 1,3-5 *", "at 02:00 every day in January and March to May"),
        ("* * * 1 *", "every minute in January"),
        ("* * 6 * *", "every minute on Sunday"),
        ("*/20 9-17 * * *", "27 runs from 09:00 to 17:40 every day"),
        ("0 0-23/2 * * *", "12 runs from 00:00 to 22:00 every day"),
    ],
)
def test_in_words(expression: str, words: str) -> None:
    assert parse(expression).in_words() == words
    assert Every(90).in_words() == "every 90 seconds"


@contract.holds(
    "A day field is set if it is anything but `*` or `*/1`.",
    "`*/2` in a day field is a set field like others, so here too either is enough.",
)
def test_days() -> None:
    november = at("2026-11-01T12:00")  # a Sunday
    assert shown(parse("0 0 mon * 15"), november, 4) == [
        "11-02 00:00",
        "11-09 00:00",
        "11-15 00:00",
        "11-16 00:00",
    ]
    assert shown(parse("0 0 mon * */1"), november, 2) == ["11-02 00:00", "11-09 00:00"]
    assert shown(parse("0 0 mon * 1-31"), november, 2) == ["11-02 00:00", "11-03 00:00"]
    assert shown(parse("0 0 mon * */2"), november, 3) == ["11-02 00:00", "11-03 00:00", "11-05 00:00"]
    assert shown(parse("0 0 */2 * 31"), november, 2) == ["11-02 00:00", "11-04 00:00"]
    assert shown(parse("0 0 * * 31"), at("2026-01-31T00:00"), 3) == [
        "03-31 00:00",
        "05-31 00:00",
        "07-31 00:00",
    ]
    assert [slot.year for slot in slots(parse("0 0 * 2 29"), at("2026-01-01"), 3)] == [2028, 2032, 2036]
    assert parse("0 0 * 2 29").next_after(at("2096-03-01")) == at("2104-02-29")


# -- zones -------------------------------------------------------------------------------------------------


class Pytz(dt.tzinfo):
    """Like a zone of pytz: it has its name in `zone`, and is wrong as the tzinfo of most datetimes."""

    zone = "Europe/Berlin"


@contract.holds(
    "`tz` is a name such as `Europe/Berlin`, an offset such as `+02:00`, or a `tzinfo` that is one of these."
)
def test_zones() -> None:
    noon = at("2026-07-01T12:00")
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    zones: list[tuple[Any, str, int]] = [
        ("Europe/Berlin", "Europe/Berlin", 22),
        (berlin, "Europe/Berlin", 22),
        (Pytz(), "Europe/Berlin", 22),
        ("+02:00", "+02:00", 22),
        (dt.timezone(dt.timedelta(hours=-3), "here"), "-03:00", 3),
        (UTC, "UTC", 0),
        ("UTC", "UTC", 0),
    ]
    for tz, name, hour in zones:
        crontab = Crontab.parse("0 0 * * *", tz=tz)
        assert crontab.zone_name == name
        slot = crontab.next_after(noon)
        assert slot.astimezone(UTC).hour == hour
        assert (slot.hour, slot.minute) == (0, 0)
        again = schedule_of(crontab.canonical, crontab.zone_name)
        assert again.zone_name == name
        assert again.next_after(noon) == slot
    moment = noon.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo"))
    assert Crontab.parse("0 0 * * *", tz=berlin).next_after(moment) == at("2026-07-01T22:00")


@pytest.mark.parametrize("tz", ["Mars/Base", "", "Europe", "+2", "../etc/passwd", "/etc/localtime", "\0", 5])
def test_an_unknown_zone_is_refused(tz: Any) -> None:
    with pytest.raises(ConfigError, match=r"^tz: .* give a name such as 'Europe/Berlin'"):
        Crontab.parse("* * * * *", tz=tz)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="aware datetime"):
        parse("* * * * *").next_after(dt.datetime.fromisoformat("2026-01-01"))


def machine(
    root: Path, *, link: str | None = None, copy_of: str | None = None, timezone: str | None = None
) -> str:
    """A machine's files: which zone /etc/localtime links to or is a copy of, and what /etc/timezone says."""
    (root / "etc").mkdir()
    (root / "usr/share/zoneinfo/Europe").mkdir(parents=True)
    for name in ("Berlin", "Paris"):
        (root / "usr/share/zoneinfo/Europe" / name).write_text(name)
    if link:
        (root / "etc/localtime").symlink_to(link)
    if copy_of:
        (root / "etc/localtime").write_text(copy_of)
    if timezone:
        (root / "etc/timezone").write_text(timezone + "\n")
    return str(root)


@contract.holds(
    "Without `tz` it is the machine's: what `TZ` says, else what `/etc/localtime` links to.",
    "If `/etc/localtime` is a copy, `/etc/timezone` names it, as long as it is the same zone.",
    "A machine without any of these runs by UTC.",
)
@pytest.mark.parametrize(
    ("environ", "files", "name"),
    [
        ({"TZ": "Asia/Tokyo"}, {"link": "/usr/share/zoneinfo/Europe/Berlin"}, "Asia/Tokyo"),
        ({"TZ": ":Asia/Tokyo"}, {}, "Asia/Tokyo"),
        ({"TZ": "/usr/share/zoneinfo/Asia/Tokyo"}, {}, "Asia/Tokyo"),
        ({"TZ": ""}, {"link": "/usr/share/zoneinfo/Europe/Berlin"}, "UTC"),
        ({}, {"link": "/usr/share/zoneinfo/Europe/Berlin", "timezone": "Europe/Paris"}, "Europe/Berlin"),
        ({}, {"link": "../usr/share/zoneinfo/posix/Europe/Berlin"}, "Europe/Berlin"),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/Paris"}, None),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/London"}, None),
        ({}, {"copy_of": "Berlin"}, None),
        ({}, {"timezone": "Europe/Berlin"}, "UTC"),
        ({}, {}, "UTC"),
    ],
)
def test_the_zone_of_the_machine(
    tmp_path: Path, environ: dict[str, str], files: dict[str, str], name: str
) -> None:
    assert machine_zone(environ, machine(tmp_path, **files)) == name


@pytest.fixture
def set_tz(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_to(tz: str) -> None:
        monkeypatch.setenv("TZ", tz)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


@contract.holds(
    "Rules of the machine without a name, as with `TZ=CET-1CEST`, are followed under the name `local`."
)
def test_rules_without_a_name(set_tz: Callable[[str], None]) -> None:
    set_tz("CET-1CEST,M3.5.0,M10.5.0/3")
    assert zone_of(None) == (None, "local")
    for expression in ("30 2 * * *", "*/30 * * * *", "*/30 2 * * *", "0,30 0-3 * * *", "15 3 * * *"):
        by_rules, by_name = Crontab.parse(expression), parse(expression, tz="Europe/Berlin")
        assert by_rules.zone_name == "local"
        for day in ("2026-03-28T12:00", "2026-10-24T12:00", "2026-06-01T00:00"):
            assert slots(by_rules, at(day), 99) == slots(by_name, at(day), 99)
            assert slots(schedule_of(by_rules.canonical, "local"), at(day), 9) == slots(by_name, at(day), 9)


def test_the_machine_zone_is_the_default(set_tz: Callable[[str], None]) -> None:
    set_tz("Asia/Tokyo")
    crontab = Crontab.parse("0 0 * * *")
    assert crontab.zone_name == "Asia/Tokyo"
    assert crontab.next_after(at("2026-01-01T12:00")) == at("2026-01-01T15:00")


# -- daylight saving ---------------------------------------------------------------------------------------


@contract.holds(
    "A fixed time runs once on each day on which it is due.",
    "A fixed time that the clock skips runs when the clock is set: 02:30 at 03:00.",
    "Several fixed times that the clock skips run together, once.",
    "A fixed time that comes twice runs the first time.",
)
def test_fixed_times() -> None:
    berlin = "Europe/Berlin"
    spring, autumn = at("2026-03-28T12:00", berlin), at("2026-10-24T12:00", berlin)
    assert shown(parse("30 2 * * *", tz=berlin), spring, 2) == ["03-29 03:00", "03-30 02:30"]
    assert shown(parse("0,10,30 2 * * *", tz=berlin), spring, 2) == ["03-29 03:00", "03-30 02:00"]
    assert shown(parse("30 2,3 * * *", tz=berlin), spring, 3) == ["03-29 03:00", "03-29 03:30", "03-30 02:30"]
    first, second = slots(parse("30 2 * * *", tz=berlin), autumn, 2)
    assert first == at("2026-10-25T00:30")
    assert second == at("2026-10-26T01:30")
    assert parse("30 2 * * *", tz=berlin).next_after(at("2026-10-25T01:10")) == second  # in the second 02:10
    assert shown(parse("15 0 * * *", tz="America/Santiago"), at("2026-09-05T12:00"), 2) == [
        "09-06 01:00",
        "09-07 00:15",
    ]
    assert shown(parse("15 2 * * *", tz="Australia/Lord_Howe"), at("2026-10-03T12:00"), 2) == [
        "10-04 02:30",
        "10-05 02:15",
    ]
    assert shown(parse("0 12 * * *", tz="Pacific/Apia"), at("2011-12-29T12:00"), 3) == [
        "12-29 12:00",
        "12-31 00:00",
        "12-31 12:00",
    ]


@contract.holds("So `*/30 * …` runs every thirty minutes of real time, and `0 * …` every hour.")
@pytest.mark.parametrize("zone", ZONES)
def test_stars_go_by_real_time(zone: str) -> None:
    for change in changes(zone)[:4] or [27_000_000]:
        moment = dt.datetime.fromtimestamp(60 * (change - DAY), UTC)
        found = slots(parse("*/30 * * * *", tz=zone), moment, 96)
        assert {b - a for a, b in pairwise(found)} == {30 * MINUTE}
        if (
            zone != "Australia/Lord_Howe"
        ):  # where an hour is half an hour longer or shorter when the clock is set
            found = slots(parse("0 * * * *", tz=zone), moment, 48)
            assert {b - a for a, b in pairwise(found)} == {60 * MINUTE}


def test_a_star_with_a_fixed_hour_follows_the_clock() -> None:
    berlin = "Europe/Berlin"
    crontab = parse("*/30 2 * * *", tz=berlin)
    assert shown(crontab, at("2026-03-28T12:00"), 2) == ["03-30 02:00", "03-30 02:30"]
    assert shown(crontab, at("2026-10-24T12:00"), 5) == [f"10-25 02:{m}" for m in ("00", "30") * 2] + [
        "10-26 02:00"
    ]


# -- every -------------------------------------------------------------------------------------------------

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


# -- missed slots ------------------------------------------------------------------------------------------


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
def test_a_clock_that_is_set(steps: list[int]) -> None:
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


def test_missed_slots_while_the_clock_was_set() -> None:
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


# -- refusals ----------------------------------------------------------------------------------------------


def table_of_refusals() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", contract.text.split("## What is refused")[1], re.MULTILINE)
    assert len(rows) > 10
    return rows


@contract.holds("Whatever is refused raises `ConfigError` where the cron is declared.")
@pytest.mark.parametrize(("expression", "message"), table_of_refusals())
def test_the_page_shows_the_message(expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.parse(expression)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "'' has 0 fields, and a crontab has five: minutes hours days months days_of_week"),
        ("0 0 0 0 0 0", "has 6 fields"),
        ("0 0 * * 8", "days_of_week: 8 is not in 0–7 (0 and 7 are Sunday)"),
        (
            "0 0 * * foo",
            "'foo' is not a number in 0–7 (0 and 7 are Sunday) or one of sun mon tue wed thu fri sat",
        ),
        ("0 0 * * sat-mon", "sat-mon ends before it begins in '0 0 * * sat-mon': write sat-sat,sun-mon"),
        ("0 0 * * mon#1", "days_of_week: 'mon#1' is not a number"),
        ("0 0 31 2,4,jun *", "days: 31 never comes in feb,apr,jun"),
        ("*/ * * * *", "minutes: the step '' is not a number in 1–59"),
        ("*/-5 * * * *", "minutes: the step '-5' is not a number"),
        ("1-2-3 * * * *", "minutes: '2-3' is not a number"),
        ("*-5 * * * *", "minutes: '*' is not a number"),
        ("٣ * * * *", "minutes: '٣' is not a number"),
        ("1.5 * * * *", "minutes: '1.5' is not a number"),
        ("+5 * * * *", "minutes: '+5' is not a number"),
        ("9" * 5000 + " * * * *", "minutes: 99999999999999999999 is not in 0–59 in '9"),
        ("x" * 5000 + " * * * *", "minutes: 'x"),
    ],
    ids=lambda text: text[:30],
)
def test_other_refusals(expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.parse(expression, order="unix")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"minutes": [61]}, "minutes: 61 is not in 0–59 in minutes=[61]"),
        ({"minutes": -1}, "minutes: '' is not a number in 0–59 in minutes=-1"),
        ({"minutes": []}, "minutes is empty: leave it out to allow all of 0–59"),
        ({"minutes": True}, "minutes: True is neither a number nor a name in minutes=True"),
        ({"minutes": [1.5]}, "minutes: 1.5 is neither a number nor a name in minutes=[1.5]"),
        ({"minutes": {1: 2}}, "minutes: {1: 2} is neither a number nor a name"),
        ({"minutes": b"1"}, "minutes: b'1' is neither a number nor a name"),
        ({"minutes": ""}, "minutes: '' is not a number"),
        ({"dow": 7}, "days_of_week: 7 is not in 0–6 (0 is Monday) in dow=7"),
        ({"dow": "0 1"}, "days_of_week: '0 1' is not a number"),
        ({"dow": 1, "days_of_week": 2}, "days_of_week and days_of_week are the same: give one of them"),
        (
            {"weekday": 1},
            "weekday: no such field of a cron; there are minutes, hours, days_of_week, months, days, dow",
        ),
        (
            {"days": [30, 31], "months": ["feb"]},
            "days: 30 never comes in feb in days=[30, 31], months=['feb']",
        ),
        ({"minutes": list(range(61))}, "minutes: 60 is not in 0–59 in minutes=[0, 1, 2"),
    ],
    ids=str,
)
def test_refusals_of_keywords(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.of(**keywords)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"] * 5])
def test_a_crontab_is_a_text(expression: Any) -> None:
    with pytest.raises(ConfigError, match="a crontab is a text of five fields, not "):
        Crontab.parse(expression)
    with pytest.raises(ConfigError, match="order is 'quartz': it can be 'autocron' or 'unix'"):
        Crontab.parse("* * * * *", order="quartz")  # type: ignore[arg-type]


@given(
    st.text(st.sampled_from("0123456789*/-, monjanL#?@é"), max_size=20), st.sampled_from(["autocron", "unix"])
)
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_crontab_or_refused(text: str, order: Any) -> None:
    for expression in (text, f"{text} * * * *", f"0 0 {text} * *", f"0 0 * * {text}"):
        with contextlib.suppress(ConfigError):
            crontab = Crontab.parse(expression, order=order, tz="UTC")
            assert crontab.next_after(at("2026-01-01")) > at("2026-01-01")
            assert crontab.in_words()


def test_declaring_a_cron_loads_neither_zones_nor_cronsim(run_script: Any) -> None:
    script = run_script(
        "import sys\n"
        "from autocron_web.crontab import Crontab\n"
        "Crontab.parse('30 2 * * 1').canonical\n"
        "Crontab.of(hours=[2]).canonical\n"
        "print([name for name in ('zoneinfo', 'cronsim') if name in sys.modules])\n"
    )
    assert script.stdout == "[]\n"


def test_each_sentence_of_the_page_is_held() -> None:
    assert contract.unheld() == []
