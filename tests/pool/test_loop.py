"""The monitor's event loop."""

from __future__ import annotations

import os

from autocron_web.pool.loop import Loop


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
