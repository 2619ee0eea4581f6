"""When a cron is due: expression → next run. Pure: the clock is an argument. docs/cron.md is the contract.

cronsim finds the next date and time that a crontab allows. It is asked in wall-clock time without a zone;
what daylight saving makes of the answer is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, Protocol

from . import cronfields as fields
from .cronfields import Values, from_keyword, from_text, short
from .errors import ConfigError

Order = Literal["autocron", "unix"]
Missed = Literal["once", "skip"]

_ORDERS = {
    "autocron": (fields.MINUTES, fields.HOURS, fields.DAYS_OF_WEEK, fields.MONTHS, fields.DAYS),
    "unix": (fields.MINUTES, fields.HOURS, fields.DAYS, fields.MONTHS, fields.UNIX_DAYS_OF_WEEK),
}
_OTHER_WORDS = {"dow": "days_of_week", "dom": "days"}
_LONGEST = {month: 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31 for month in range(1, 13)}


class Schedule(Protocol):
    """What a cron runs by. `schedule_of` makes it again from its `canonical` text and its `zone_name`."""

    @property
    def canonical(self) -> str: ...

    @property
    def zone_name(self) -> str: ...

    # The first slot later than `moment`; both are aware.
    def next_after(self, moment: datetime) -> datetime: ...

    # When it runs, for a log or a table.
    def in_words(self) -> str: ...


class Crontab:
    """The slots of a crontab. Made by `parse` from an expression, by `of` from keywords."""

    def __init__(self, values: dict[str, Values], tz: str | tzinfo | None, where: str) -> None:
        self.minutes, self.hours, self.days, self.months, self.days_of_week = (
            values[field.word] for field in _ORDERS["unix"]
        )
        # A day field that is not set says nothing; if both are set, either is enough.
        self.days_set = not (self.days.star and len(self.days.numbers) == 31)
        self.days_of_week_set = not (self.days_of_week.star and len(self.days_of_week.numbers) == 7)
        longest = max(_LONGEST[month] for month in self.months.numbers)
        if not self.days_of_week_set and self.days.numbers[0] > longest:
            months = fields.to_text(fields.MONTHS, Values(self.months.numbers), names=True)
            raise ConfigError(f"days: {self.days.numbers[0]} never comes in {months} in {where}")
        self._fields = self._for_cronsim()
        self._tz = tz
        self._zone: tuple[tzinfo | None, str] | None = None
        if tz is not None:
            self._resolve()
        #: Whether the same expression has another meaning in the order of crontab(5).
        self.ambiguous = False

    @classmethod
    def parse(cls, expression: str, *, order: Order = "autocron", tz: str | tzinfo | None = None) -> Crontab:
        """Read an expression of five fields.

        order: "autocron" is `minutes hours days_of_week months days`, with Monday as 0; "unix" is that of
            crontab(5), `minutes hours days months days_of_week`, with Sunday as 0 or 7.
        tz: a name such as "Europe/Berlin", an offset such as "+02:00", or a tzinfo; the machine's zone.

        Raises `ConfigError`, which names the field, the value and what it can be.
        """
        if order not in _ORDERS:
            raise ConfigError(f"order is {order!r}: it can be 'autocron' or 'unix'")
        if not isinstance(expression, str):
            raise ConfigError(f"a crontab is a text of five fields, not {short(expression)}")
        try:
            crontab = cls._read(expression, order, tz)
        except ConfigError as error:
            if order == "autocron" and not cls._reads(expression, order) and cls._reads(expression, "unix"):
                raise ConfigError(
                    f"{error}; if it is in the order of crontab(5), write unix={expression!r}"
                ) from None
            raise
        if order == "autocron" and (other := cls._reads(expression, "unix")):
            crontab.ambiguous = other.canonical != crontab.canonical
        return crontab

    @classmethod
    def of(cls, *, tz: str | tzinfo | None = None, **keywords: object) -> Crontab:
        """Read `minutes`, `hours`, `days`, `months` and `days_of_week` (`dom` and `dow` are short for two).

        Each is a list of numbers or names (a day of the week from 0 for Monday), one of these, or a text as
        in an expression; what is left out allows all. Raises `ConfigError`.
        """
        given: dict[str, tuple[object, str]] = {}
        for word, value in keywords.items():
            name = _OTHER_WORDS.get(word, word)
            if name in given:
                raise ConfigError(f"{given[name][1]} and {word} are the same: give one of them")
            given[name] = (value, word)
        known = {field.word: field for field in _ORDERS["autocron"]}
        if unknown := set(given) - set(known):
            raise ConfigError(
                f"{min(unknown)}: no such field of a cron; there are {', '.join(known)}, dow, dom"
            )
        values = {word: from_keyword(field, *given.get(word, (None, word))) for word, field in known.items()}
        return cls(values, tz, ", ".join(f"{word}={short(value)}" for value, word in given.values()))

    @classmethod
    def _read(cls, expression: str, order: str, tz: str | tzinfo | None) -> Crontab:
        texts, where = expression.split(), short(expression)
        if len(texts) != 5:
            words = " ".join(field.word for field in _ORDERS[order])
            raise ConfigError(f"{where} has {len(texts)} fields, and a crontab has five: {words}")
        values = {
            field.word: from_text(field, text, where)
            for field, text in zip(_ORDERS[order], texts, strict=True)
        }
        return cls(values, tz, where)

    @classmethod
    def _reads(cls, expression: str, order: str) -> Crontab | None:
        try:
            return cls._read(expression, order, None)
        except ConfigError:
            return None

    def __repr__(self) -> str:
        return f"<Crontab {self.canonical!r}>"

    # -- as text ---------------------------------------------------------------------------------------

    @property
    def canonical(self) -> str:
        """The expression in the order of crontab(5), the same for every way to write it."""
        days, days_of_week = self._day_texts()
        minutes = fields.to_text(fields.MINUTES, self.minutes)
        hours = fields.to_text(fields.HOURS, self.hours)
        months = (
            "*"
            if len(self.months.numbers) == 12
            else fields.to_text(fields.MONTHS, Values(self.months.numbers))
        )
        return f"{minutes} {hours} {days} {months} {days_of_week}"

    def _day_texts(self) -> tuple[str, str]:
        days, days_of_week = Values(self.days.numbers), Values(self.days_of_week.numbers)
        return (
            fields.to_text(fields.DAYS, days) if self.days_set else "*",
            fields.to_text(fields.DAYS_OF_WEEK, days_of_week, names=True) if self.days_of_week_set else "*",
        )

    @property
    def zone_name(self) -> str:
        return self._resolve()[1]

    def in_words(self) -> str:
        """Such as "at 02:00 on Monday and Friday", or "60 runs from 02:00 to 02:59 every day"."""
        from .cronwords import in_words

        return in_words(self)

    # -- in time ---------------------------------------------------------------------------------------

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`, which must be aware; in the crontab's zone."""
        if moment.tzinfo is None:
            raise ValueError("a crontab is asked for the slot after an aware datetime, not a naive one")
        zone = self._resolve()[0]
        find = self._next_by_real_time if self.minutes.star or self.hours.star else self._next_by_the_clock
        return find(moment.astimezone(UTC), zone).astimezone(zone)

    def _resolve(self) -> tuple[tzinfo | None, str]:
        if self._zone is None:
            from .timezones import zone_of

            self._zone = zone_of(self._tz)
        return self._zone

    def _next_by_the_clock(self, moment: datetime, zone: tzinfo | None) -> datetime:
        """A fixed time: the first moment of its day at which the clock shows it, or has gone past it."""
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        while True:  # asked again in a repeated hour, where the first answer has been already
            wall = self._following(wall)
            run = _first_at(wall, zone)
            if run > moment:
                return run

    def _next_by_real_time(self, moment: datetime, zone: tzinfo | None) -> datetime:
        """With a `*`: every minute at which the clock shows an allowed time, as often as it shows it."""
        offset = _offset(moment, zone)
        wall = (moment + offset).replace(tzinfo=None)
        while True:
            run = (self._following(wall) - offset).replace(tzinfo=moment.tzinfo)
            change = _next_change(moment, run, zone)
            if change is None:
                return run
            moment, offset = change, _offset(change, zone)  # from there on the clock shows something else
            wall = (moment + offset - timedelta(seconds=1)).replace(tzinfo=None)

    def _following(self, wall: datetime) -> datetime:
        """The next allowed date and time on a clock that is never set."""
        from cronsim import CronSim

        return next(CronSim(self._fields, wall))

    def _for_cronsim(self) -> str:
        """With every step as a list: to cronsim, as to cron, days `*/2` and days of the week mean *and*."""
        minutes = _list(self.minutes.numbers, 60)
        hours = _list(self.hours.numbers, 24)
        days = _list(self.days.numbers) if self.days_set else "*"
        months = _list(self.months.numbers, 12)
        days_of_week = _list((n + 1) % 7 for n in self.days_of_week.numbers) if self.days_of_week_set else "*"
        return f"{minutes} {hours} {days} {months} {days_of_week}"


def _list(numbers: Iterable[int], all_of_them: int | None = None) -> str:
    texts = list(map(str, numbers))
    return "*" if len(texts) == all_of_them else ",".join(texts)


def _offset(moment: datetime, zone: tzinfo | None) -> timedelta:
    """How far the zone's clock is ahead of UTC at this moment."""
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _first_at(wall: datetime, zone: tzinfo | None) -> datetime:
    """The first moment at which the zone's clock shows this time; in a gap, that of the change."""
    naive = wall.replace(fold=0)
    local = naive.astimezone() if zone is None else naive.replace(tzinfo=zone)
    run = local.astimezone(UTC)
    shown = run.astimezone(zone).replace(tzinfo=None, fold=0)
    if shown == naive:
        return run
    day = timedelta(days=1)
    return _next_change(run - day, run + day, zone) or run


def _next_change(moment: datetime, until: datetime, zone: tzinfo | None) -> datetime | None:
    """The first moment after `moment`, at the latest `until`, at which the zone's clock is set."""
    week, second = timedelta(days=7), timedelta(seconds=1)
    while moment < until:
        before, end = _offset(moment, zone), min(moment + week, until)
        if _offset(end, zone) != before:
            while end - moment > second:
                middle = moment + (end - moment) / 2
                middle = middle.replace(microsecond=0) if middle - moment > second else moment + second
                if _offset(middle, zone) == before:
                    moment = middle
                else:
                    end = middle
            return end.replace(microsecond=0)
        moment = end
    return None
