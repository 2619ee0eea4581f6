"""The five fields of a crontab: text or keywords → the numbers that they allow. Knows no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .errors import ConfigError


class Field(NamedTuple):
    """What one field may hold: its word, its numbers, and the names of those from `low` on."""

    word: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    note: str = ""

    def number(self, text: str, where: str) -> int:
        """One number or name. `where` is what the user wrote, for the message."""
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if not (text.isascii() and text.isdigit()):
            names = f" or one of {' '.join(self.names)}" if self.names else ""
            raise ConfigError(f"{self.word}: {short(text)} is not a number in {self.range}{names} in {where}")
        if len(text) > 9 or not self.low <= int(text) <= self.high:
            raise ConfigError(f"{self.word}: {text:.20} is not in {self.range} in {where}")
        return int(text)

    @property
    def range(self) -> str:
        return f"{self.low}–{self.high}{self.note}"


_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

MINUTES = Field("minutes", 0, 59)
HOURS = Field("hours", 0, 23)
DAYS = Field("days", 1, 31)
MONTHS = Field("months", 1, 12, _MONTH_NAMES)
DAYS_OF_WEEK = Field("days_of_week", 0, 6, _DAY_NAMES, " (0 is Monday)")
UNIX_DAYS_OF_WEEK = Field("days_of_week", 0, 7, ("sun", *_DAY_NAMES[:-1]), " (0 and 7 are Sunday)")


class Values(NamedTuple):
    """The numbers that a field allows, in order, and whether it is written with a `*`."""

    numbers: tuple[int, ...]
    star: bool = False


def from_text(field: Field, text: str, where: str) -> Values:
    """The values of one field of an expression, such as `*/5`, `mon-fri` or `0,30`. Raises `ConfigError`."""
    terms = text.split(",")
    numbers = {number for term in terms for number in _term(field, term, where)}
    if field is UNIX_DAYS_OF_WEEK:
        numbers = {(number + 6) % 7 for number in numbers}
    return Values(tuple(sorted(numbers)), any(term.startswith("*") for term in terms))


def from_keyword(field: Field, value: object, word: str) -> Values:
    """The values of a keyword: None for all, a number, a name, a text as above, or a list of these."""
    where = f"{word}={short(value)}"
    if value is None:
        return from_text(field, "*", where)
    items = (
        list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)) else [value]
    )
    if not items:
        raise ConfigError(f"{word} is empty: leave it out to allow all of {field.range}")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, str)):
            raise ConfigError(f"{word}: {short(item)} is neither a number nor a name in {where}")
    each = [from_text(field, str(item), where) for item in items]
    numbers = {number for values in each for number in values.numbers}
    return Values(tuple(sorted(numbers)), any(values.star for values in each))


def _term(field: Field, term: str, where: str) -> range:
    span, slash, step = term.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        low, high = field.low, field.high
    elif dash:
        low, high = field.number(first, where), field.number(last, where)
        if field is UNIX_DAYS_OF_WEEK and last.lower() == "sun" and low > 0:
            high = 7  # so that fri-sun can be written
        if high < low:
            _backwards(field, first, last, where)
    else:
        low = field.number(span, where)
        high = field.high if slash else low
    return range(low, high + 1, _step(field, step, where) if slash else 1)


def _step(field: Field, step: str, where: str) -> int:
    most = field.high - field.low
    if not (step.isascii() and step.isdigit() and len(step) < 9 and 1 <= int(step) <= most):
        raise ConfigError(f"{field.word}: the step {short(step)} is not a number in 1–{most} in {where}")
    return int(step)


def _backwards(field: Field, first: str, last: str, where: str) -> None:
    lowest, highest = (field.names[0], field.names[-1]) if field.names else (field.low, field.high)
    instead = f"{first}-{highest},{lowest}-{last}"
    raise ConfigError(f"{field.word}: {first}-{last} ends before it begins in {where}: write {instead}")


# -- the numbers as text again -----------------------------------------------------------------------------


def to_text(field: Field, values: Values, *, names: bool = False) -> str:
    """The one way to write these values: `from_text` reads them back."""
    left = set(values.numbers)
    terms = []
    if values.star:
        star = next(step for step in range(1, 60) if left.issuperset(range(field.low, field.high + 1, step)))
        left -= set(range(field.low, field.high + 1, star))
        terms.append(f"*/{star}" if star > 1 else "*")
    label = (lambda number: field.names[number - field.low]) if names else str
    for low, high in runs(sorted(left)):
        terms.append(label(low) if low == high else f"{label(low)}-{label(high)}")
    return ",".join(terms)


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each unbroken run."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def short(value: object) -> str:
    """`value` for a message: never longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "…"
