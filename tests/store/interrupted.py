"""What happens in the middle of a call: an exception, or another call, at each step of the store's code."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import autocron_web.store

_FOLDER = str(Path(autocron_web.store.__file__).parent)


class Interrupt(BaseException):
    """What a signal handler raises."""


class Steps:
    """Does `action` at the step `number` of the store's code in what is called inside.

    A step is an instruction, so all moments at which Python runs a signal handler or raises an asynchronous
    exception are among them, or with `lines` a line; `only` of the functions with these names, if given.
    """

    def __init__(
        self, number: int, action: Callable[[], object], *, lines: bool = False, only: str = ""
    ) -> None:
        self._only = only.split()
        self._left = number
        self._action = action
        self._kind = "line" if lines else "opcode"
        self.where = ""  # the place of that step; nothing if it was never reached

    def __enter__(self) -> Steps:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if self.where or not code.co_filename.startswith(_FOLDER):
            return None
        if self._only and code.co_name not in self._only:
            return None
        frame.f_trace_opcodes = self._kind == "opcode"
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == self._kind and not self.where:
            if self._left == 0:
                code = frame.f_code
                self.where = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname} {frame.f_lasti}"
                sys.settrace(None)
                self._action()
            self._left -= 1
        return self._step


def interrupt() -> None:
    raise Interrupt


def each_step(
    call: Callable[[int], object],
    action: Callable[[], object],
    *,
    lines: bool = False,
    stride: int = 1,
    only: str = "",
    kept: list[Interrupt] | None = None,
) -> Iterator[str]:
    """Make the call again and again, each time with `action` at another step, until there is none left.

    `call` gets the number of the step. Yields the place. What the call raises is put into `kept`, with its
    traceback, and so with the variables of all that was interrupted.
    """
    number = 0
    while True:
        with Steps(number, action, lines=lines, only=only) as steps:
            try:
                call(number)
            except Interrupt as error:
                if kept is not None:
                    kept.append(error)
        if not steps.where:
            return
        yield steps.where
        number += stride


def in_a_thread(call: Callable[[], Any], timeout: float = 20) -> Any:
    """What a call returns in another thread; `TimeoutError` if it hangs."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError("the call hangs")
    return answers[0]
