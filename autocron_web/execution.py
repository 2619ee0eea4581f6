"""Running a job's function in this process: in a worker, or at once in inline mode."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import JobStopped, NotStorable
from .jobs import MAX_TRACEBACK

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from .tasks import Task

#: What a framework puts around every task: its app context, its connections. Filled by adapters.
surroundings: list[Callable[[], AbstractContextManager[Any]]] = []


class Outcome(NamedTuple):
    """How a run ended, for the monitor."""

    head: dict[str, Any]
    result: bytes
    error: BaseException | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the function just returned."""
        return bool(self.head["ok"]) and "reason" not in self.head


def run(
    task: Task[..., Any],
    job_id: str,
    codec: str,
    payload: bytes,
    ended: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Call the function with the stored arguments. Never raises: whatever comes out is the outcome.

    ended: why the job was ended before its function could be called, if so. Then it is not called.
    """
    global _stoppable

    started = time.perf_counter()
    pid = os.getpid()
    try:
        args, kwargs = arguments(task, job_id, codec, payload)
        _stoppable = True  # from here on `stop` raises, and what was said before is asked for
        if (reason := ended()) is not None:
            raise JobStopped(reason)
        value = call_in_surroundings(task.function, args, kwargs)
        _stoppable = False
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: a task ends only itself
        _stoppable = False
        if os.getpid() != pid:
            os._exit(1)  # the task has forked, and this is the child
        return Outcome(_failure(task.function, error, time.perf_counter() - started), b"", error)
    if os.getpid() != pid:
        os._exit(0)
    return _returned(task, job_id, codec, value, time.perf_counter() - started)


async def run_beside(
    task: Task[..., Any], job_id: str, codec: str, payload: bytes, ended: Callable[[], str | None]
) -> Outcome:
    """The same for a coroutine that runs beside others on this loop, in a context of its own."""
    from .eventloop import owner

    started = time.perf_counter()
    owner.set(task.name)
    try:
        args, kwargs = arguments(task, job_id, codec, payload)
        if (reason := ended()) is not None:
            raise JobStopped(reason)
        with _surrounded():
            value = await _called(task.function, args, kwargs)
    except BaseException as error:
        return Outcome(_failure(task.function, error, time.perf_counter() - started), b"", error)
    return _returned(task, job_id, codec, value, time.perf_counter() - started)


def _returned(task: Task[..., Any], job_id: str, codec: str, value: object, seconds: float) -> Outcome:
    head = {"ok": True, "codec": codec, "seconds": seconds}
    try:
        result = _dump(task, job_id, codec, value) if value is not None else b""
    except Exception as error:
        head["reason"] = _storable(f"the result was not stored: {error}")
        result = b""
    return Outcome(head, result)


def arguments(task: Task[..., Any], job_id: str, codec: str, payload: bytes) -> Any:
    """The `args` and `kwargs` of a job; unpickled only if the task takes pickles. Raises `NotStorable`."""
    if codec != "pickle":
        from .codec import load_call

        return load_call(payload)
    if task.defaults.serializer != "pickle":
        raise NotStorable(
            f"the arguments of the job {job_id} are pickled, and {task.name} takes no pickles: they are not"
            " unpickled. Give the task serializer='pickle' if they are its own"
        )
    from . import pickles

    return pickles.load_call(task.name, job_id, payload)


def _dump(task: Task[..., Any], job_id: str, codec: str, value: object) -> bytes:
    if codec != "pickle":
        from .codec import dumps

        return dumps(value)
    from . import pickles

    return pickles.dump_result(task.name, job_id, value)


def call_in_surroundings(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call it with all that frameworks put around tasks. What it sets in the context is gone with it."""
    return copy_context().run(_call, function, args, kwargs)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _surrounded() if surroundings else _NOTHING:
        value = _called(function, args, kwargs)
        return _run_coroutine(value) if isinstance(value, Coroutine) else value


_NOTHING = nullcontext()


@contextmanager
def _surrounded() -> Iterator[None]:
    with ExitStack() as stack:
        for surrounding in surroundings:
            stack.enter_context(surrounding())
        yield


def _called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            _explain_misfit(error, function, args, kwargs)
        raise


def _explain_misfit(
    error: TypeError, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The call itself failed: the function has other arguments than when the job was stored."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, and says nothing of its arguments
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        given = [f"#{number}" for number in range(1, len(args) + 1)] + list(kwargs)
        error.add_note(
            f"The job was stored with the arguments ({', '.join(given)}), by another version of the code:"
            f" {function.__qualname__} takes {signature} now. Give new arguments a default, and take old ones"
            " for as long as jobs may wait"
        )


# -- coroutines, and the end from outside ------------------------------------------------------------------

_stoppable = False  # a task runs in the main thread
_coroutine: asyncio.Task[Any] | None = None  # the task of asyncio that is a job's, in the main thread


def stop(reason: str) -> None:
    """End the running task: called by a signal handler, so in the main thread, between two lines of it.

    Raises `JobStopped` there, which the task may use to clean up. A coroutine is cancelled.
    """
    if _coroutine is not None:
        _coroutine.get_loop().call_soon_threadsafe(_coroutine.cancel, reason)
    elif _stoppable:
        raise JobStopped(reason)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """On the event loop for all tasks of this process.

    Inline mode calls it from any thread, and from coroutines: then it runs on a loop of its own.
    """
    global _coroutine
    import asyncio
    import threading

    from . import eventloop
    from .engine import engine

    if asyncio._get_running_loop() is not None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(copy_context().run, asyncio.run, coroutine).result()
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(coroutine)
    eventloop.owner.set("")  # what it leaves behind is ended by `Traces`, which knows the task
    loop = eventloop.event_loop()
    _coroutine = loop.create_task(coroutine)
    try:
        if engine.in_worker:
            return eventloop.run(_coroutine)
        try:
            return loop.run_until_complete(_coroutine)  # from which Ctrl-C comes out
        finally:
            eventloop.end_left()
    finally:
        _coroutine = None


# -- how it failed -----------------------------------------------------------------------------------------


def _failure(function: Callable[..., Any], error: BaseException, seconds: float) -> dict[str, Any]:
    import logging

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = _shortened(_traceback(error, name))
    try:
        logging.getLogger("autocron_web.task").error(
            "%s failed\n%s", getattr(function, "__qualname__", function), text
        )
    except Exception:  # the task has closed or replaced what the log goes to
        pass
    return {"ok": False, "seconds": seconds, "error_type": _storable(name), "error": text}


def _traceback(error: BaseException, name: str) -> str:
    """From the line of the user on: without the frames of this file and of the event loop's."""
    import traceback

    inner = error.__traceback__
    while inner is not None and inner.tb_frame.f_code.co_filename in _OURS:
        inner = inner.tb_next
    if isinstance(error, JobStopped):
        _cut_handler(inner)
    try:
        return "".join(traceback.format_exception(type(error), error, inner)).rstrip()
    except BaseException as second:  # a message that raises, a chain or a group too deep to walk
        return f"{name}: the traceback could not be written ({type(second).__name__})"


def _cut_handler(frames: TracebackType | None) -> None:
    """The last line of the user's is where the signal found the task."""
    while frames is not None and frames.tb_next is not None:
        if os.path.dirname(frames.tb_next.tb_frame.f_code.co_filename) == _WORKER:
            frames.tb_next = None
        frames = frames.tb_next


_OURS = (__file__, os.path.join(os.path.dirname(__file__), "eventloop.py"))
_WORKER = os.path.join(os.path.dirname(__file__), "pool")


def _shortened(text: str) -> str:
    """The end of it, within `MAX_TRACEBACK` bytes."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TRACEBACK:
        return data.decode()
    note = f"[{len(data):,} bytes, of which the last {MAX_TRACEBACK:,} are kept] …".encode()
    return (note + data[-(MAX_TRACEBACK - len(note)) :]).decode("utf-8", "ignore")


def _storable(text: str) -> str:
    """Without lone surrogates, which no database takes."""
    return text.encode("utf-8", "replace").decode()


def flush_output() -> None:
    """What the task printed belongs to its job, not to the next one."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass  # the task has closed or replaced it
