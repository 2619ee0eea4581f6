"""What can be asked of jobs: looked at where it is asked, so that an app and a task hear the same of it."""

from __future__ import annotations

import math

from .errors import ConfigError
from .jobs import STATES

LONGEST = 1e10  # seconds: 300 years
LARGEST = 1e300  # whatever is counted: it is stored as JSON, of which not all readers know infinity
MOST_NOTE = 1000  # characters of a note of progress that are kept: it travels with the job
MOST_JOBS = 2**63 - 1  # the largest number that a store can be asked for


def check_patience(timeout: object) -> float | None:
    """How many seconds somebody waits; None for as long as it takes. Raises `ConfigError`."""
    if timeout is None or timeout == math.inf:
        return None
    try:
        seconds = _number(timeout, "timeout")
    except ConfigError as error:
        raise ConfigError(f"{error} of seconds, or None to wait for as long as it takes") from None
    return max(-LONGEST, min(seconds, LONGEST))


def check_query(limit: object, task: object, state: object) -> int:
    """How many jobs are asked for at most, of which task and in which state. Raises `ConfigError`."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ConfigError(f"limit is {short(limit)}: give a whole number, 0 or more")
    if state is not None and state not in STATES:
        raise ConfigError(f"state is {short(state)}: it can be {', '.join(map(repr, STATES))}")
    if task is not None and (not isinstance(task, str) or not is_storable(task)):
        raise ConfigError(f"task is {short(task)}: give the name of a task, such as 'shop.send_mail'")
    return min(limit, MOST_JOBS)


def check_progress(done: object, total: object) -> tuple[float, float | None]:
    """How far a task is. Raises `ConfigError`."""
    return _number(done, "done"), None if total is None else _number(total, "total")


def is_span(value: object) -> bool:
    """Whether this is a length of time: a number, neither negative nor without end."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LONGEST


def is_storable(text: str) -> bool:
    """Whether the store can hold it: no half of a character, as a file's name with undecodable bytes has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: object, word: str) -> float:
    """A finite number; those of other types (numpy's, a Decimal, a Fraction) as a float."""
    number: float
    if isinstance(value, (bool, str, bytes)):
        raise ConfigError(f"{word} is {short(value)}: give a number")
    if isinstance(value, (int, float)):
        number = value
    else:
        try:
            number = float(value)  # type: ignore[arg-type]  # what has no such conversion is refused
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{word} is {short(value)}: give a number") from None
    if not -LARGEST <= number <= LARGEST:  # also what is no number at all
        raise ConfigError(f"{word} is {short(value)}: give a number")
    return number


def short(value: object) -> str:
    """`value` for a message: never longer than a line, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # a number of more digits than Python shows
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:50] + "…"
