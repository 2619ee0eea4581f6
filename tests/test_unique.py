"""Which calls of a task with `unique="args"` are one: by what the function gets, not by how it is written."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web.tasks import Task

SENTINEL = object()


def sync(
    user: Any, force: Any = False, *more: Any, when: Any = None, other: Any = SENTINEL, **rest: Any
) -> None:
    """Arguments of each kind."""


def key(*args: Any, **kwargs: Any) -> str | None:
    task: Task[..., Any] = autocron.delay(unique="args")(sync)
    return task.job(task.defaults, args, kwargs).unique_key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (key(7), key(user=7)),
        (key(7), key(7, False)),
        (key(7), key(7, force=False)),
        (key(7), key(7, when=None)),
        (key(7), key(when=None, force=False, user=7)),
        (key(7, True), key(force=True, user=7)),
        (key(7, x=1, y=2), key(7, y=2, x=1)),
        (key({1: "a", 2: "b"}), key({2: "b", 1: "a"})),
        (key({(1, 2): {3: 4, 5: 6}, "x": 1}), key({"x": 1, (1, 2): {5: 6, 3: 4}})),
        (key([{dt.date(2026, 1, 1): 1, None: 2}]), key([{None: 2, dt.date(2026, 1, 1): 1}])),
        (key({"$x": 1, "y": 2}), key({"y": 2, "$x": 1})),
        (key({"a", "b", "c"}), key({"c", "b", "a"})),
        (key(frozenset({1, 2}), when=({"a": 1, "b": 2},)), key(frozenset({2, 1}), when=({"b": 2, "a": 1},))),
    ],
)
def test_the_same_arguments(first: str, second: str) -> None:
    assert first == second


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (key(7), key(8)),
        (key(7), key(7, True)),
        (key(7), key(7, 0)),
        (key(7), key("7")),
        (key(1), key(True)),
        (key(7), key(7, False, None)),
        (key(7, False, 1, 2), key(7, False, 2, 1)),
        (key(7), key(7, other=1)),
        (key(7), key(7, extra=None)),
        (key([1, 2]), key([2, 1])),
        (key([1]), key((1,))),
        (key({1: 2}), key({"1": 2})),
        (key({1: "a", 2: "b"}), key({1: "b", 2: "a"})),
        (key("a", "b"), key("b", "a")),
    ],
)
def test_other_arguments(first: str, second: str) -> None:
    assert first != second


def test_the_key_of_another_task_with_the_same_arguments_is_another_one() -> None:
    def other(user: Any) -> None: ...

    task = autocron.delay(unique="args")(other)
    assert task.job(task.defaults, (7,), {}).unique_key != key(7)
