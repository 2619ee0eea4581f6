"""The task of autocron-web."""

from __future__ import annotations

import autocron_web as autocron
import stamps


@autocron.delay
def mark(index: int) -> None:
    stamps.note(index)


@autocron.delay
def compute(index: int) -> None:
    """About ten milliseconds of Python."""
    sum(number * number for number in range(200_000))
