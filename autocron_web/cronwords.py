"""A crontab in words, for logs and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .cronfields import runs
from .crontab import Crontab

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def in_words(crontab: Crontab) -> str:
    """Such as "at 02:00 on Monday and Friday", or "60 runs from 02:00 to 02:59 every day"."""
    times, dates = _times(crontab), _dates(crontab)
    if times.startswith("every") and dates.startswith("every day"):
        dates = dates.removeprefix("every day").strip()
    return f"{times} {dates}".strip()


def _times(crontab: Crontab) -> str:
    minutes, hours = crontab.minutes.numbers, crontab.hours.numbers
    if len(hours) == 24 and (often := _often(minutes)):
        return often
    count = len(minutes) * len(hours)
    if count <= 4:
        return "at " + _and(f"{hour:02}:{minute:02}" for hour in hours for minute in minutes)
    return f"{count} runs from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"


def _often(minutes: Sequence[int]) -> str:
    """The minutes of every hour."""
    if len(minutes) == 60:
        return "every minute"
    if len(minutes) == 1:
        return f"every hour at minute {minutes[0]}"
    step = minutes[1] - minutes[0]
    if 60 % step == 0 and tuple(minutes) == tuple(range(0, 60, step)):
        return f"every {step} minutes"
    return f"every hour at minutes {_spans(minutes, str)}"


def _dates(crontab: Crontab) -> str:
    days = "on the " + _spans(crontab.days.numbers, _ordinal)
    days_of_week = "on " + _spans(crontab.days_of_week.numbers, _DAYS.__getitem__)
    set_ones = [days] * crontab.days_set + [days_of_week] * crontab.days_of_week_set
    dates = " and also ".join(set_ones) or "every day"
    if len(crontab.months.numbers) < 12:
        dates += " in " + _spans(crontab.months.numbers, lambda month: _MONTHS[month - 1])
    return dates


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 11 <= number <= 13 else ending}"


def _spans(numbers: Iterable[int], label: Callable[[int], str]) -> str:
    """ "1 to 5 and 9", with two neighbours as "1 and 2"."""
    parts: list[str] = []
    for low, high in runs(numbers):
        if high - low >= 2:
            parts.append(f"{label(low)} to {label(high)}")
        else:
            parts += [label(number) for number in range(low, high + 1)]
    return _and(parts)


def _and(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
