"""The monitor's event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from autocron_web.pool.loop import FEW, Loop
from conftest import wait_until


class Oops(Exception):
    pass


def fail() -> None:
    raise Oops


@pytest.fixture
def failures() -> list[Exception]:
    return []


@pytest.fixture
def loop(failures: list[Exception]) -> Loop:
    loop = Loop()
    loop.on_failure = failures.append
    return loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_watch_that_has_just_been_ended_is_not_called_any_more() -> None:
    loop = Loop()
    called = []
    pipes = [os.pipe() for _ in range(2)]

    def end_all(number: int) -> None:
        called.append(number)
        for out, _ in pipes:
            loop.unwatch(out)
            os.close(out)
        loop.stop()

    for number, (out, into) in enumerate(pipes):
        loop.watch(out, lambda number=number: end_all(number))  # type: ignore[misc]
        os.write(into, b"x")
    loop.run()
    assert len(called) == 1
    for _, into in pipes:
        os.close(into)


def test_what_fails_fails_alone(loop: Loop, failures: list[Exception]) -> None:
    done = []
    loop.after(0.0, fail)
    loop.call_soon(fail)
    loop.call_soon(lambda: done.append("a call"))
    loop.after(0.01, fail)
    loop.after(0.02, lambda: done.append("a timer"))
    loop.after(0.03, loop.stop)
    loop.run()
    assert done == ["a call", "a timer"]
    assert [type(error) for error in failures] == [Oops] * 3


def test_a_descriptor_whose_callback_fails_is_not_asked_again(
    loop: Loop, failures: list[Exception], pipe: tuple[int, int]
) -> None:
    loop.watch(pipe[0], fail)
    os.write(pipe[1], b"never read")
    loop.after(0.1, loop.stop)
    loop.run()
    assert [type(error) for error in failures] == [Oops]


def test_what_a_guarded_callback_is_about_ends_with_its_failure(
    loop: Loop, failures: list[Exception]
) -> None:
    ended = []
    assert loop.guard(lambda: 7) == 7
    assert loop.guard(fail, lambda: ended.append("it")) is None
    assert loop.guard(fail, fail) is None
    assert (ended, len(failures)) == (["it"], 3)


@pytest.mark.parametrize("seconds", [30 * 86400, 1e10, float("inf")])
def test_a_timer_may_be_far_away(loop: Loop, seconds: float) -> None:
    loop.after(seconds, fail)
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert thread.is_alive()
    loop.call_soon(loop.stop)
    thread.join(10)
    assert not thread.is_alive()


def test_cancelled_timers_do_not_wait_for_their_moment(loop: Loop, failures: list[Exception]) -> None:
    kept = [loop.after(0.01 * number, lambda: None) for number in range(10)]
    for _ in range(20 * FEW):
        loop.after(86400, fail).cancel()
        assert len(loop._timers) <= 2 * FEW + len(kept)
    loop.after(0.2, loop.stop)
    loop.run()
    wait_until(lambda: all(timer.callback is None for timer in kept), 5, "the others to have run")
    assert failures == []


def test_a_timer_that_is_cancelled_twice_or_has_run_counts_once(loop: Loop) -> None:
    timers = [loop.after(0.0, lambda: None) for _ in range(3)]
    timers[0].cancel()
    timers[0].cancel()
    loop.after(0.01, loop.stop)
    loop.run()
    for timer in timers:
        timer.cancel()
    assert loop._dead == 0
