"""What fails inside the monitor and ends nothing: told with its cause, and not without end."""

from __future__ import annotations

from .output import Printer

MOST = 100  # kinds of failure that are counted apart


class Broken(BaseException):
    """Something without which going on would be wrong: it ends the monitor, and the next one recovers."""


class Failures:
    """Tells the first failure of a kind with its traceback, then the tenth, the hundredth … in a sentence.

    Of one kind are those of the same exception at the same line.
    """

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._counts: dict[tuple[type[BaseException], str, int], int] = {}

    def note(self, error: BaseException) -> None:
        """Something has failed, and the pool goes on."""
        kind = type(error), *_place(error)
        if kind not in self._counts and len(self._counts) >= MOST:
            return
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count == 1:
            import traceback

            text = "".join(traceback.format_exception(error)).rstrip()
            self._printer.say(f"something has failed inside the pool, which goes on\n{text}")
        elif is_worth_telling(count):
            self._printer.say(f"the same has failed {count} times: {type(error).__name__}: {error}")


def is_worth_telling(count: int) -> bool:
    """Whether it is the first time, the tenth, the hundredth …"""
    return str(count).strip("0") == "1"


def _place(error: BaseException) -> tuple[str, int]:
    """The file and line that has raised it."""
    trace = error.__traceback__
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
