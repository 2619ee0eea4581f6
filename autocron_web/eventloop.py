"""The event loop on which the coroutines of tasks run, and what their jobs leave on it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

PATIENCE = 5.0  # seconds that a coroutine has to end which its job has left behind and which is cancelled

#: The name of the task of whose job this code is; None where it is of no job.
owner: ContextVar[str | None] = ContextVar("owner", default=None)

#: What jobs have begun on the loop, and for which task: not what the app has begun there, in its lifespan.
_begun: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()


@functools.cache
def event_loop() -> asyncio.AbstractEventLoop:
    """One for all tasks of this process, so that what they keep open stays usable."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(_make)
    return loop


def _make(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **more)
    of = owner.get()
    if of is not None:
        _begun[task] = of
    return task


def run(task: asyncio.Task[T]) -> T:
    """Run the loop until this has ended, also if something else there stops it or raises SystemExit."""
    loop = event_loop()
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()
    return task.result()


class Left(NamedTuple):
    """A coroutine that a job has left running."""

    task: str
    name: str
    ended: bool  # now that it has been cancelled


def end_left() -> list[Left]:
    """Cancel what jobs have left on the loop, and let it end; what that was."""
    if not any(not task.done() for task in _begun):
        return []
    found = run(Context().run(event_loop().create_task, _end_left()))  # which is of no job
    _begun.clear()
    return [
        Left(of, getattr(task.get_coro(), "__qualname__", "a coroutine"), task.done())
        for task, of in found.items()
        if not (_closes_generator(task) and task.done())
    ]


async def _end_left() -> dict[asyncio.Task[Any], str]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    found: dict[asyncio.Task[Any], str] = {}
    while left := {task: of for task, of in _begun.items() if not task.done()}:
        for task in left.keys() - found.keys():
            if not _closes_generator(task):
                task.cancel()
        found |= left
        if loop.time() >= deadline:
            break
        await asyncio.wait(left, timeout=deadline - loop.time())
    return found


def _closes_generator(task: asyncio.Task[Any]) -> bool:
    """Whether it is the end of an asynchronous generator that was not exhausted, as asyncio begins it."""
    coroutine: Coroutine[Any, Any, Any] | Any = task.get_coro()
    return type(coroutine).__name__ == "async_generator_athrow"
