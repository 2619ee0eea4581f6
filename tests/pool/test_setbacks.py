"""How often the app is loaded where that fails or is in vain, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autocron_web.pool.setbacks import PAUSES, Setbacks

pytestmark = pytest.mark.once


class Clock:
    """In the place of the loop: keeps the pauses, in seconds, and lets none of them pass."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def time(self) -> float:
        return 0.0

    def after(self, seconds: float, callback: Any) -> Any:
        self.pauses.append(seconds)
        return SimpleNamespace(callback=callback, cancel=lambda: None)


def test_reloads_in_a_row_take_longer_and_longer_and_are_told_once() -> None:
    clock, said = Clock(), list[str]()
    loop: Any = clock
    printer: Any = SimpleNamespace(say=said.append)
    setbacks = Setbacks(loop, printer, lambda: None)
    setbacks.reload("/shop/part.py")
    assert said == []  # somebody has edited it
    for _ in range(8):
        setbacks.reload("/shop/part.py")
    assert said == ["the app is loaded again and again, as its files change: the last was /shop/part.py"]
    assert clock.pauses == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert setbacks.pausing
    assert setbacks.why is None  # the workers that there are work
    setbacks.forget()
    setbacks.reload("/shop/part.py")
    assert (clock.pauses[-1], len(said)) == (PAUSES[0], 1)
