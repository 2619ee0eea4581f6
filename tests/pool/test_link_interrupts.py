"""Calls that are interrupted in the middle: by Ctrl-C, a time limit, a handler that calls a task itself."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest
from link_monitor import JOB, Begun, Monitor, a_link, begun, monitor, path  # noqa: F401 - fixtures, too

from autocron_web import connection, link, linkstate, listener
from autocron_web.client import StoreClient
from autocron_web.framelock import FrameLock
from autocron_web.link import Link
from autocron_web.memory import MemoryJobs
from autocron_web.pool.wire import Kind
from conftest import wait_until

pytestmark = pytest.mark.usefixtures("interrupted_steps")


class Interrupt(BaseException):
    """As a signal's handler raises it: Ctrl-C, a time limit."""


_MODULES = (link, connection, linkstate, listener, sys.modules["autocron_web.client"])
_FILES = {module.__file__ for module in _MODULES}


def interrupted(number: int, function: Callable[[], object]) -> bool:
    """Call it, and raise in its line of this number; whether it has so many."""
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _FILES:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def is_free(lock: FrameLock) -> bool:
    """Whether another thread gets it."""
    got = threading.Event()

    def take() -> None:
        with lock:
            got.set()

    threading.Thread(target=take, daemon=True).start()
    return got.wait(5)


def unlink(a_link: Link) -> None:
    """As after the end of a monitor, before the thread has noticed it."""
    own = a_link._state
    if own.connection is not None:
        own.drop(own.connection)


def wait_once(a_link: Link) -> None:
    store = MemoryJobs()
    store.enqueue([JOB])
    StoreClient(store, a_link).wait(JOB, 0)  # type: ignore[arg-type] # all that it asks is there


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # sockets of what was interrupted
@pytest.mark.parametrize(
    "use",
    [
        lambda a_link: a_link.wake(0),
        lambda a_link: (unlink(a_link), a_link.wake(0)),
        lambda a_link: a_link.cancel("x"),
        lambda a_link: (unlink(a_link), a_link.cancel("x")),
        lambda a_link: (unlink(a_link), wait_once(a_link)),
        lambda a_link: (a_link.leave(), a_link.join()),
        lambda a_link: (a_link.stop(5), a_link.join()),
        lambda a_link: a_link.modules(["shop"]),
    ],
    ids=[
        "wake",
        "link and wake",
        "cancel",
        "link and cancel",
        "wait",
        "leave and join",
        "stop and join",
        "modules",
    ],
)
def test_an_interrupted_call_leaves_all_as_it_was(
    use: Callable[[Link], object], a_link: Link, monitor: Monitor
) -> None:
    a_link.join()
    number = 0
    for number in count():
        if not interrupted(number, lambda: use(a_link)):
            break
        own = a_link._state
        assert is_free(own.lock)
        assert is_free(own.joining)
        a_link.join()
        wakes = len(monitor.heard(Kind.WAKE))
        a_link.wake(0)
        wait_until(lambda: len(monitor.heard(Kind.WAKE)) > wakes, 20, f"a wake after line {number}")  # noqa: B023 - used at once
    assert number > 3
    assert monitor.errors == []
    a_link.join()
    a_link.stop(5)
    assert monitor.heard(Kind.STOP)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_handler_of_a_signal_may_call_in_the_middle_of_a_call(a_link: Link, monitor: Monitor) -> None:
    """At each line of a call that links: no deadlock, and no frame in the middle of another one."""
    a_link.join()
    number = 0
    for number in count():
        seen = count()
        nested = False

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal nested
            if frame.f_code.co_filename not in _FILES:
                return None
            if event == "line" and next(seen) == number and not nested:  # noqa: B023 - used at once
                nested = True
                sys.settrace(None)
                a_link.wake(0)
            return trace

        unlink(a_link)
        sys.settrace(trace)
        try:
            a_link.wake(0)
            a_link.join()
        finally:
            sys.settrace(None)
        if not nested:
            break
    assert number > 10
    assert monitor.errors == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a garbage collection's turn
def test_signals_at_any_moment(a_link: Link, monitor: Monitor) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    try:
        a_link.join()
        for round_ in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + round_ * 0.000001)
                if round_ % 2:
                    unlink(a_link)
                a_link.wake(0)
                a_link.watch("x", lambda: None)
                time.sleep(0.001)
            except Interrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:  # in the last line
        hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits > 50
    assert is_free(a_link._state.lock)
    assert is_free(a_link._state.joining)
    wakes = len(monitor.heard(Kind.WAKE))
    a_link.wake(0)
    wait_until(lambda: len(monitor.heard(Kind.WAKE)) > wakes, 20, "a wake")
    assert monitor.errors == []
