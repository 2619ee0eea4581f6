"""Running a job's function in this process: in a worker, or at once in inline mode."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from .jobs import MAX_TRACEBACK

if TYPE_CHECKING:
    import asyncio

#: What a framework puts around every task: its app context, its connections. Filled by adapters.
surroundings: list[Callable[[], AbstractContextManager[Any]]] = []


class Outcome(NamedTuple):
    """How a run ended, for the monitor."""

    head: dict[str, Any]
    result: bytes


def run(function: Callable[..., Any], codec_name: str, payload: bytes) -> Outcome:
    """Call the function with the stored arguments. Never raises: whatever comes out is the outcome."""
    from . import codec

    started = time.perf_counter()
    pid = os.getpid()
    try:
        args, kwargs = codec.load_call(payload)
        with ExitStack() as stack:
            for surrounding in surroundings:
                stack.enter_context(surrounding())
            value = function(*args, **kwargs)
            if isinstance(value, Coroutine):
                value = _run_coroutine(value)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: a task ends only itself
        if os.getpid() != pid:
            os._exit(1)  # the task has forked, and this is the child
        return Outcome(_failure(function, error, time.perf_counter() - started), b"")
    if os.getpid() != pid:
        os._exit(0)
    head = {"ok": True, "codec": "json", "seconds": time.perf_counter() - started}
    try:
        result = codec.dumps(value) if value is not None else b""
    except Exception as error:
        head["reason"] = _storable(f"the result was not stored: {error}")
        result = b""
    return Outcome(head, result)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """On one event loop for all tasks of this process, so that what they keep open stays usable.

    Inline mode calls it from any thread, and from coroutines: then it runs on a loop of its own.
    """
    import asyncio
    import threading

    if asyncio._get_running_loop() is not None:
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(copy_context().run, asyncio.run, coroutine).result()
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(coroutine)
    return event_loop().run_until_complete(coroutine)


@functools.cache
def event_loop() -> asyncio.AbstractEventLoop:
    """The loop on which the coroutines of tasks run, one after another."""
    import asyncio

    return asyncio.new_event_loop()


def _failure(function: Callable[..., Any], error: BaseException, seconds: float) -> dict[str, Any]:
    import logging
    import traceback

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        inner = error.__traceback__ and error.__traceback__.tb_next  # without this file's own frame
        text = "".join(traceback.format_exception(kind, error, inner)).rstrip()
    except BaseException as second:  # an exception whose __str__ raises, a traceback too deep to walk
        text = f"{name}: the traceback could not be written ({type(second).__name__})"
    text = _storable(text)[-MAX_TRACEBACK:]
    try:
        logging.getLogger("autocron_web.task").error(
            "%s failed\n%s", getattr(function, "__qualname__", function), text
        )
    except Exception:  # the task has closed or replaced what the log goes to
        pass
    return {"ok": False, "seconds": seconds, "error_type": _storable(name), "error": text}


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
