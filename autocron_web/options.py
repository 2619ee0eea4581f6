"""The options of a task: what the keywords of `delay` and `Task.options` are, and what they can be."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from .checks import is_span, short
from .errors import ConfigError
from .jobs import JITTER, SECOND

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence
    from typing import Literal, TypedDict

    class CallOptions(TypedDict, total=False):
        """The keywords of `Task.options`, for type checkers."""

        weeks: float
        days: float
        hours: float
        minutes: float
        seconds: float
        schedule: datetime.datetime | None
        retries: int
        backoff: float
        jitter: float
        timeout: float | None
        priority: int
        queue: str
        unique: Literal["args", "task"] | None
        expires: float | None
        result_ttl: float | None
        on_commit: bool

    class TaskOptions(CallOptions, total=False):
        """Those of `delay`."""

        concurrency: int
        serializer: Literal["json", "pickle"]
        secret_args: Sequence[str]
        name: str | None


MOST_RETRIES = 1_000_000  # far more than anybody means, and every store can hold it
LOWEST, HIGHEST = -100, 100  # priorities: a claim has a look at each that waits
MOST_AT_ONCE = 1000  # coroutines in one worker


class Options(NamedTuple):
    """The keywords of `delay` and of `Task.options`, as given; None stands for the default."""

    delay: int = 0  # microseconds
    schedule: datetime.datetime | None = None
    retries: int = 0
    backoff: float = 1.0
    jitter: float = JITTER
    timeout: float | None = None
    priority: int = 0
    queue: str = "default"
    unique: str | None = None
    expires: float | None = None
    result_ttl: float | None = None
    on_commit: bool = True
    # of the task: not of a single call
    serializer: str = "json"
    concurrency: int = 1
    secret_args: Sequence[str] = ()

    def changed(self, **given: Any) -> Options:
        """A copy with these keywords; raises `ConfigError` that names what is wrong."""
        spans = {unit: given.pop(unit) for unit in list(given) if unit in _UNITS}
        unknown = set(given) - set(self._fields[1:])
        if unknown:
            words = ", ".join([*_UNITS, *self._fields[1:], "name"])
            raise ConfigError(f"{', '.join(sorted(unknown))}: no such option of a task; there are {words}")
        if spans:
            given["delay"] = _span(spans)
        options = self._replace(**given)
        options._check()
        return options

    def due(self, moment: int) -> int:
        """When a job is due that is stored at `moment` (both in microseconds)."""
        if self.schedule is not None:
            return max(moment, int(self.schedule.timestamp() * SECOND))
        return moment + self.delay

    def columns(self, due: int) -> dict[str, Any]:
        """What a job that is due then (in microseconds) has of these options, by the names of its columns."""
        values = _of_the_monitor(self)
        return {
            "queue": self.queue,
            "priority": self.priority,
            "expires": None if self.expires is None else due + int(self.expires * SECOND),
            "meta": {} if values == _DEFAULTS else _differing(values),
        }

    def _check(self) -> None:
        self._check_numbers()
        if not isinstance(self.on_commit, bool):
            raise ConfigError(f"on_commit is {self.on_commit!r}: it can be True or False")
        if self.unique not in (None, "args", "task"):
            raise ConfigError(f"unique is {self.unique!r}: it can be 'args' (task and arguments) or 'task'")
        if not isinstance(self.queue, str) or not self.queue or not self.queue.isprintable():
            raise ConfigError(f"queue is {self.queue!r}: give a word, such as 'mail'")
        self._check_schedule()
        if self.serializer not in ("json", "pickle"):
            raise ConfigError(f"serializer is {self.serializer!r}: it can be 'json' or 'pickle'")
        names = self.secret_args
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"secret_args is {names!r}: give a list of names, such as ['password']")
        if self.serializer == "pickle" and self.unique == "args":
            raise ConfigError(
                "unique='args' compares arguments, which cannot be told from pickles: use unique='task'"
            )

    def _check_schedule(self) -> None:
        if self.schedule is None:
            return
        if not hasattr(self.schedule, "timestamp"):
            raise ConfigError(f"schedule is {self.schedule!r}: give a datetime (a naive one is local time)")
        try:
            self.schedule.timestamp()
        except (OverflowError, OSError, ValueError) as error:  # within a day of the year 1 or 9999
            raise ConfigError(
                f"schedule is {self.schedule!r}, of which no time can be told: {error}"
            ) from None

    def _check_numbers(self) -> None:
        at_once: object = self.concurrency
        if isinstance(at_once, bool) or not isinstance(at_once, int) or not 1 <= at_once <= MOST_AT_ONCE:
            raise ConfigError(
                f"concurrency is {short(at_once)}: give a whole number from 1 to {MOST_AT_ONCE}"
            )
        retries: object = self.retries
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"retries is {short(retries)}: give a whole number, 0 or more")
        if retries > MOST_RETRIES:
            raise ConfigError(f"retries is {short(retries)}: give at most {MOST_RETRIES:,}")
        level: object = self.priority
        if isinstance(level, bool) or not isinstance(level, int) or not LOWEST <= level <= HIGHEST:
            raise ConfigError(
                f"priority is {short(level)}: give a whole number from {LOWEST} to {HIGHEST},"
                " higher ones begin first"
            )
        for word in ("backoff", "timeout", "expires", "result_ttl"):
            value = getattr(self, word)
            if value is not None and not is_span(value):
                raise ConfigError(
                    f"{word} is {short(value)}: give a number of seconds, 0 or more, 300 years at most"
                )
        if not is_span(self.jitter) or self.jitter > 1:
            raise ConfigError(f"jitter is {short(self.jitter)}: give a share of the pause, from 0 to 1")


#: What the monitor needs later: of these, a job keeps what differs from the defaults.
_WORDS = ("retries", "backoff", "jitter", "timeout", "result_ttl")
_of_the_monitor = attrgetter(*_WORDS)
_DEFAULTS = _of_the_monitor(Options())


def _differing(values: tuple[Any, ...]) -> dict[str, Any]:
    pairs = zip(_WORDS, values, _DEFAULTS, strict=True)
    return {word: value for word, value, default in pairs if value != default}


_UNITS = {"weeks": 604800, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def _span(spans: dict[str, Any]) -> int:
    for unit, value in spans.items():
        if not is_span(value):
            raise ConfigError(f"{unit} is {short(value)}: give a number, 0 or more, 300 years at most")
    seconds: float = sum(value * _UNITS[unit] for unit, value in spans.items())
    if not is_span(seconds):
        words = ", ".join(f"{unit}={short(value)}" for unit, value in spans.items())
        raise ConfigError(f"{words}: that is more than 300 years")
    return round(seconds * SECOND)
