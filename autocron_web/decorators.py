"""`delay`, `cron` and `every`: how a function becomes a task, and how a task runs by itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Never, ParamSpec, TypeVar, overload

from .checks import is_span, short
from .errors import ConfigError, TaskDefinitionError
from .options import Options
from .tasks import Task, make_task

if TYPE_CHECKING:
    import datetime
    from typing import Protocol, Unpack

    from .crontab import Missed, Schedule
    from .options import TaskOptions
    from .tasks import AsyncTask

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[[], Any])


class Cron(NamedTuple):
    """When a task runs by itself."""

    task: str
    schedule: Schedule
    missed: Missed
    catch_up: float  # seconds
    overlap: str
    start_now: bool = False
    doubtful: str | None = None  # the expression, if it means something else in the order of crontab(5)


#: Every cron of this process by the name of its task.
crons: dict[str, Cron] = {}


@overload
def delay(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def delay(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def delay(**options: Unpack[TaskOptions]) -> Decorator: ...
def delay(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Make a function a task: calling it stores a job, which a worker process runs.

    Without arguments the job is due at once. With arguments:

    weeks, days, hours, minutes, seconds: how long after the call the job is due; they add up.
    schedule: a datetime at which it is due (a naive one is local time; one in the past is now).
    retries: how often it is tried again after an exception; 0.
    backoff: seconds before the first of these tries, doubled for each further one; 1.
    jitter: the share of that pause by which it is longer at random, 0 to 1; 0.1. So jobs that failed together
        do not all come back together.
    timeout: seconds after which a running job is ended; none.
    priority: higher runs first; 0.
    queue: a word to group jobs by; "default".
    unique: "args" or "task": while a job of this task (with these arguments) is waiting or running,
        a call stores nothing and returns that job's Result.
    expires: seconds after its due moment after which neither the job nor another try of it begins: it is
        cancelled then, or up to a minute later; none.
    result_ttl: seconds that a done job is kept; 1800.
    serializer: "json", or "pickle" for arguments and results of any class; they are signed (docs/pickle.md).
    concurrency: how many jobs of an `async def` task a worker may run at once, beside other such tasks; 1.
    secret_args: names of arguments that the status never shows, beside those with names such as `password`.
    on_commit: whether a call in a transaction of Django is stored after its commit; True.
    name: what jobs call the task; `module.function`. Jobs of an earlier name wait until a task has it.

    Raises `TaskDefinitionError` for what a worker could not find again (a lambda, a function of an
    interactive session), `ConfigError` for an option that cannot be.

        @autocron.delay(minutes=5, retries=3)
        def send_mail(address: str, text: str) -> int: ...
    """
    checked = Options().changed(**options)
    if function is not None:
        return make_task(function, name, checked)
    return lambda function: make_task(function, name, checked)


Field = int | str | Sequence[int | str]


@overload
def cron(function: F, /) -> F: ...
@overload
def cron(
    crontab: str | None = ...,
    minutes: Field | None = ...,
    hours: Field | None = ...,
    days: Field | None = ...,
    months: Field | None = ...,
    days_of_week: Field | None = ...,
    *,
    dow: Field | None = ...,
    dom: Field | None = ...,
    unix: str | None = ...,
    order: Literal["autocron"] | None = ...,
    tz: str | datetime.tzinfo | None = ...,
    missed: Missed = ...,
    catch_up: float = ...,
    overlap: Literal["skip", "allow"] = ...,
) -> CronDecorator: ...
def cron(
    crontab: Any = None,
    minutes: Field | None = None,
    hours: Field | None = None,
    days: Field | None = None,
    months: Field | None = None,
    days_of_week: Field | None = None,
    *,
    dow: Field | None = None,
    dom: Field | None = None,
    unix: str | None = None,
    order: Literal["autocron"] | None = None,
    tz: str | datetime.tzinfo | None = None,
    missed: Missed = "once",
    catch_up: float = 3600.0,
    overlap: Literal["skip", "allow"] = "skip",
    **others: Any,
) -> Any:
    """Let a function without arguments run by itself, at the times of a crontab.

    crontab: `minutes hours dow months dom`, with Monday as 0; every minute if nothing is given.
    minutes, hours, days (or dom), months, days_of_week (or dow): the fields as lists, instead.
    unix: an expression in the order of crontab(5) instead: `minutes hours dom months dow`, Sunday is 0 or 7.
    order: "autocron" says that the order of the first argument is meant as it is.
    tz: the name of a time zone; the machine's.
    missed: "once" (of runs that were missed the latest is made up for, if it is not older than
        `catch_up` seconds) or "skip".
    overlap: "skip" (no run begins while the one before is waiting or running) or "allow".

    What else the task is to have (retries, timeout, priority, queue …) is given by `delay` beside it:
    `@cron("30 2 * * *")` over or under `@delay(retries=3)`.

    docs/cron.md is the contract. Raises `ConfigError` that names the field and what it can be.

        @autocron.cron("30 2 * * *")
        def clean_up() -> None: ...
    """
    from .crontab import Crontab

    if callable(crontab):
        return cron()(crontab)
    _refuse(others, "cron", cron)
    fields = {
        "minutes": minutes,
        "hours": hours,
        "days": days,
        "months": months,
        "days_of_week": days_of_week,
    }
    given = {
        word: value for word, value in (*fields.items(), ("dow", dow), ("dom", dom)) if value is not None
    }
    if (crontab is not None) + (unix is not None) + bool(given) > 1:
        raise ConfigError(
            "a cron is given as a crontab, as unix=, or by fields such as minutes=: give one of them"
        )
    if order not in (None, "autocron"):
        raise ConfigError(f"order is {order!r}: it can be 'autocron'; for that of crontab(5) write unix=")
    schedule: Schedule
    doubtful = None
    if given:
        schedule = Crontab.of(tz=tz, **given)
    elif unix is not None:
        schedule = Crontab.parse(unix, order="unix", tz=tz)
    else:
        schedule = Crontab.parse("* * * * *" if crontab is None else crontab, tz=tz)
        if schedule.ambiguous and order is None:
            doubtful = crontab
    return _by_schedule(schedule, missed, catch_up, overlap, start_now=False, doubtful=doubtful)


def every(
    seconds: float,
    *,
    start_now: bool = False,
    missed: Missed = "once",
    catch_up: float = 3600.0,
    overlap: Literal["skip", "allow"] = "skip",
    **others: Never,
) -> CronDecorator:
    """Let a function without arguments run by itself, at the multiples of a number of seconds.

    seconds: 1 or more.
    start_now: one more run as soon as the cron is first seen.
    missed, catch_up, overlap: as for `cron`.

    Raises `ConfigError` that names what is wrong.

        @autocron.every(seconds=30)
        def look() -> None: ...
    """
    from .slots import Every

    _refuse(others, "every", every)
    return _by_schedule(Every(seconds), missed, catch_up, overlap, start_now=start_now)


def _refuse(others: Mapping[str, object], word: str, function: Any) -> None:
    """Say which keywords there are, if others were given."""
    if others:
        code = function.__code__
        known = ", ".join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        raise ConfigError(f"{min(others)}: no such keyword of {word}; there are {known}")


def _by_schedule(
    schedule: Schedule,
    missed: Missed,
    catch_up: float,
    overlap: str,
    *,
    start_now: bool,
    doubtful: str | None = None,
) -> CronDecorator:
    if missed not in ("once", "skip"):
        raise ConfigError(f"missed is {missed!r}: it can be 'once' or 'skip'")
    if overlap not in ("skip", "allow"):
        raise ConfigError(f"overlap is {overlap!r}: it can be 'skip' or 'allow'")
    if not is_span(catch_up):
        raise ConfigError(
            f"catch_up is {short(catch_up)}: give a number of seconds, 0 or more, 300 years at most"
        )

    def decorate(function: F) -> F:
        given: Any = function
        bare: Any = given.function if isinstance(given, Task) else given
        if needed := _needed(bare):
            raise TaskDefinitionError(
                f"{bare.__qualname__} cannot be a cron: it is called without arguments, and needs"
                f" {', '.join(needed)}. Give them defaults, or let a function without arguments call it"
            )
        task = given if isinstance(given, Task) else make_task(given, None, Options())
        crons[task.name] = Cron(task.name, schedule, missed, catch_up, overlap, start_now, doubtful)
        return function

    return decorate


def _needed(function: Callable[..., Any]) -> list[str]:
    """The arguments without which a call fails; without `inspect`, which takes long to import."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    positional, named = code.co_varnames[: code.co_argcount], code.co_varnames[code.co_argcount :]
    defaults: Any = getattr(function, "__defaults__", None) or ()
    named_defaults: Any = getattr(function, "__kwdefaults__", None) or {}
    return [
        *positional[hasattr(function, "__self__") : code.co_argcount - len(defaults)],
        *(name for name in named[: code.co_kwonlyargcount] if name not in named_defaults),
    ]


if TYPE_CHECKING:

    class Decorator(Protocol):
        """What `delay(...)` with arguments returns."""

        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...

    class CronDecorator(Protocol):
        """What `cron(...)` returns: the function stays as it is."""

        def __call__(self, function: F, /) -> F: ...
