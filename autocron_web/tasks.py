"""What a decorated function becomes, and the registry in which workers find it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from .checks import is_storable, short
from .errors import ConfigError, NotStorable, TaskDefinitionError
from .jobs import Job, new_id, now
from .options import Options
from .settings import importable, main_name

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Unpack

    from .options import CallOptions
    from .results import Result

P = ParamSpec("P")
R = TypeVar("R")

#: One call of many: the arguments by position, or by name.
Arguments = tuple[Any, ...] | list[Any] | dict[str, Any]

#: Every task of this process by its name. Workers look jobs up here, and nowhere else.
registry: dict[str, Task[..., Any]] = {}


class Task(Generic[P, R]):
    """A function whose calls become jobs. Made by `delay`.

    @autocron.delay(minutes=5)
    def remind(user_id: int) -> None: ...

    remind(7)                              # stores a job and returns its Result at once
    remind.call(7)                         # runs the function here and now
    remind.options(minutes=10).enqueue(7)  # other options for this call
    """

    def __init__(self, function: Callable[P, R], name: str, options: Options) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.defaults = options  # of each call that gives no others

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Store a job; it is on disk when this returns. The same as `enqueue`."""
        return _enqueue(self, self.defaults, args, kwargs)

    enqueue = __call__

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """`enqueue` for event loops, which it never blocks, whoever holds the store."""
        return await _aenqueue(self, self.defaults, args, kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, as if it had not been decorated."""
        return self.function(*args, **kwargs)

    def options(self, **options: Unpack[CallOptions]) -> Call[P, R]:
        """The same task with other options: those of `delay` that are not of the task alone."""
        for word in ("serializer", "concurrency", "secret_args"):
            if word in options:
                raise ConfigError(f"{word} is an option of the task, not of a call: give it to delay()")
        return Call(self, self.defaults.changed(**options))

    def enqueue_many(self, calls: Iterable[Arguments]) -> list[Result[R]]:
        """Store many jobs in one commit. Each call is a tuple of arguments, or a dict of keywords.

        send_mail.enqueue_many([("a@b.c", "hi"), {"address": "d@e.f", "text": "ho"}])
        """
        return _enqueue_many(self, self.defaults, calls)

    def job(
        self, options: Options, args: Sequence[Any], kwargs: dict[str, Any], *, kind: str = "call"
    ) -> Job:
        """The record of one call. Raises TypeError for wrong arguments and `NotStorable`."""
        from . import codec

        plain = not kwargs and options.unique is None and len(args) in self._numbers
        arguments = {} if plain else self._signature.bind(*args, **kwargs).arguments
        job_id = new_id()
        if options.serializer == "pickle":
            from . import pickles

            payload = pickles.dump_call(self.name, job_id, tuple(args), kwargs)
        else:
            payload = codec.dump_call(tuple(args), kwargs, names=self._names)
        moment = now()
        due = options.due(moment)
        return Job(
            id=job_id,
            task=self.name,
            due=due,
            created=moment,
            kind=kind,
            unique_key=self._unique_key(options.unique, arguments),
            codec=options.serializer,
            payload=payload,
            **options.columns(due),
        )

    @functools.cached_property
    def _signature(self) -> Any:
        import inspect

        return inspect.signature(self.function)

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._signature.parameters)

    @functools.cached_property
    def _numbers(self) -> range:
        """How many arguments a call can have that gives them all by position: most need no closer look."""
        kinds = [(each.kind, each.default is each.empty) for each in self._signature.parameters.values()]
        if any(kind is kind.KEYWORD_ONLY and needed for kind, needed in kinds):
            return range(0)
        positional = [needed for kind, needed in kinds if kind <= kind.POSITIONAL_OR_KEYWORD]
        return range(sum(positional), len(positional) + 1)

    def _unique_key(self, unique: str | None, arguments: dict[str, Any]) -> str | None:
        """The same for the same arguments, whether they were given by position or by name."""
        if unique is None:
            return None
        if unique == "task":
            return self.name
        import hashlib

        # A default that was written out makes no difference. It is left out, not added where it is missing,
        # as one that nobody gives need not be storable.
        defaults = self._defaults_as_texts
        told = [item for item in _texts(arguments).items() if defaults.get(item[0]) != item[1]]
        return f"{self.name}:{hashlib.sha256(repr(sorted(told)).encode()).hexdigest()}"

    @functools.cached_property
    def _defaults_as_texts(self) -> dict[str, str]:
        """The defaults of the function, but for those that no call could give, as they cannot be stored."""
        texts: dict[str, str] = {}
        for name, parameter in self._signature.parameters.items():
            if parameter.default is not parameter.empty:
                with suppress(NotStorable):
                    texts |= _texts({name: parameter.default})
        return texts


def _texts(arguments: dict[str, Any]) -> dict[str, str]:
    """Each argument as a text, which is the same for equal values. Raises `NotStorable`."""
    import json

    from . import codec

    _, named = json.loads(codec.dump_call((), arguments))
    return {name: json.dumps(_in_order(value), sort_keys=True) for name, value in named.items()}


def _in_order(value: Any) -> Any:
    """The same JSON for dicts that were filled in another order: also where their keys are no texts."""
    if isinstance(value, list):
        return list(map(_in_order, value))
    if isinstance(value, dict):
        value = {key: _in_order(item) for key, item in value.items()}
        if "$dict" in value:
            value["$dict"].sort(key=repr)
    return value


if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """The task of an `async def`, for type checkers: only a direct call of it is another one."""

        # What is enqueued gives R, and what is called gives a coroutine, as the function itself does.
        def call(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...  # type: ignore[override]


class Call(Generic[P, R]):
    """A task with options of its own for the calls that are made through it. Made by `Task.options`."""

    def __init__(self, task: Task[P, R], options: Options) -> None:
        self._task = task
        self._options = options

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """As `Task.enqueue`."""
        return _enqueue(self._task, self._options, args, kwargs)

    __call__ = enqueue

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """As `Task.aenqueue`."""
        return await _aenqueue(self._task, self._options, args, kwargs)

    def enqueue_many(self, calls: Iterable[Arguments]) -> list[Result[R]]:
        """As `Task.enqueue_many`."""
        return _enqueue_many(self._task, self._options, calls)


def _enqueue(task: Task[..., R], options: Options, args: Sequence[Any], kwargs: dict[str, Any]) -> Result[R]:
    from .engine import engine

    return engine.enqueue([task.job(options, args, kwargs)], on_commit=options.on_commit)[0]


async def _aenqueue(
    task: Task[..., R], options: Options, args: Sequence[Any], kwargs: dict[str, Any]
) -> Result[R]:
    from .engine import engine

    return (await engine.aenqueue([task.job(options, args, kwargs)]))[0]


def _enqueue_many(task: Task[..., R], options: Options, calls: Iterable[Arguments]) -> list[Result[R]]:
    from .engine import engine

    jobs = []
    for call in calls:
        args, kwargs = ((), call) if isinstance(call, dict) else (call, {})
        if not isinstance(args, (tuple, list)):
            raise TypeError(
                f"{call!r} is no call of {task.name}: give a tuple of arguments or a dict of keywords"
            )
        jobs.append(task.job(options, args, kwargs))
    return engine.enqueue(jobs, on_commit=options.on_commit)


# -- the registry -------------------------------------------------------------------------------------------


# inspect.CO_GENERATOR, CO_ASYNC_GENERATOR, CO_COROUTINE and CO_VARKEYWORDS: importing that takes 10 ms
_GENERATOR, _COROUTINE, _VARKEYWORDS = 0x20 | 0x200, 0x80, 0x08


def make_task(function: Callable[..., Any], name: str | None, options: Options) -> Task[..., Any]:
    if isinstance(function, Task):
        function = function.function  # decorated twice: as it were a task of a task, which would feed itself
    if not callable(function):
        raise TaskDefinitionError(f"{function!r} cannot be a task: only a function can")
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & _GENERATOR:
        raise TaskDefinitionError(
            f"{function!r} cannot be a task: it is a generator, of which a call runs nothing."
            " Let the function do its work, and return a list"
        )
    if options.concurrency > 1 and not flags & _COROUTINE:
        raise TaskDefinitionError(
            f"{getattr(function, '__qualname__', function)} cannot have concurrency={options.concurrency}:"
            " only coroutines run beside each other in a worker. Write it with `async def`, or start more"
            " workers"
        )
    _check_secrets(function, options)
    task: Task[..., Any] = Task(function, _checked_name(name or _name_of(function)), options)
    registry[task.name] = task
    from .engine import engine

    engine.registered(importable(task.function.__module__))
    return task


def _check_secrets(function: Callable[..., Any], options: Options) -> None:
    """Raise `ConfigError` for a secret argument that the function has not: it would hide nothing."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & _VARKEYWORDS:
        return
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for name in options.secret_args:
        if name not in names:
            has = ", ".join(names) or "none"
            raise ConfigError(
                f"secret_args names {name!r}, which is no argument of {function.__qualname__}: it has {has}"
            )


def _checked_name(name: object) -> str:
    """The name, if every store can hold it. Raises `TaskDefinitionError`."""
    if not isinstance(name, str) or not is_storable(name):
        raise TaskDefinitionError(
            f"a task cannot be called {short(name)}, which no store can hold: give it a name= of whole"
            " characters"
        )
    return name


def _name_of(function: Callable[..., Any]) -> str:
    """`module.function`, by which a worker finds the task."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "")
    if not module or not name or name.endswith("<lambda>"):
        raise TaskDefinitionError(
            f"{function!r} cannot be a task: a worker could not find it by a name."
            " Write it as a function with `def`"
        )
    if importable(module) == "__main__":
        module = main_name()
        if module is None:
            raise TaskDefinitionError(
                f"{name} cannot be a task: no worker can find what was typed in an interactive session."
                " Write it into a file and import it from there"
            )
    return f"{module}.{name}".replace(".<locals>", "")


def defining_modules() -> list[str]:
    """The modules that have registered tasks or reports, by the names that workers are told."""
    from . import reports

    return sorted(reports.modules | {importable(task.function.__module__) for task in registry.values()})
