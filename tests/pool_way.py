"""An app with tasks, run in a process of its own by a few lines of each test."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, Script

SHOP = '''
import asyncio, ctypes, datetime, itertools, json, os, signal, subprocess, sys, threading, time
from collections import deque
from pathlib import Path

import autocron_web as autocron


def start(workers=2):
    return autocron.start("shop.db", workers)


def note(*words):
    with open("ledger", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


def noted(start=""):
    text = Path("ledger").read_text() if os.path.exists("ledger") else ""
    return [line for line in text.splitlines() if line.startswith(start)]


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def raised(kind, function, *args, **keywords):
    try:
        value = function(*args, **keywords)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}, but {value!r}")


@autocron.delay
def add(a, b=10):
    return a + b


@autocron.delay
def tell(word):
    note(word)
    return os.getpid()


@autocron.delay
def hold(word):
    """Run until the file `release-<word>` is there."""
    note("begin", word, os.getpid())
    while not os.path.exists(f"release-{word}"):
        time.sleep(0.01)
    note("end", word)
    return word


def release(word):
    Path(f"release-{word}").touch()


@autocron.delay
def fail(word):
    raise ValueError(f"no such user: {word}")  # the line of the user
'''

#: Coroutines that run beside each other.
MEET = '''
from contextvars import ContextVar

word_of = ContextVar("word_of")


@autocron.delay(concurrency=3)
async def meet(word):
    """Run until the file `release-<word>` is there."""
    word_of.set(word)
    note("begin", word, os.getpid())
    while not os.path.exists(f"release-{word}"):
        await asyncio.sleep(0.01)
    print("printed by", word_of.get())
    return word_of.get()


@autocron.delay
async def alone(word):
    note("begin", word, os.getpid())
    return word


def begun(count):
    until(lambda: len(noted("begin")) >= count)
    return noted("begin")
'''


class Way(Protocol):
    def __call__(
        self, body: str, *, workers: int = ..., env: Mapping[str, str] | None = ..., wait: bool = ...
    ) -> Script: ...


WithTasks = Callable[[str], None]


@pytest.fixture
def way(run_script: RunScript, tmp_path: Path, home: Path) -> Way:
    """Run a body with the shop's tasks in an app process with a pool, and stop it at the end.

    More tasks may stand in `tmp_path/more.py`: see `with_tasks`.
    """
    (tmp_path / "shop.py").write_text(SHOP)

    def run(
        body: str, *, workers: int = 2, env: Mapping[str, str] | None = None, wait: bool = True
    ) -> Script:
        script = run_script(
            "from shop import *\n"
            "if os.path.exists('more.py'): from more import *\n"
            f"started = start({workers})\n"
            "try:\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n"
            "finally:\n"
            "    stopped = autocron.stop(20)\n"
            "assert stopped\n",
            env=env,
            wait=False,
        )
        if wait:
            script.succeed()
        return script

    return run


@pytest.fixture
def with_tasks(tmp_path: Path) -> Callable[[str], None]:
    """Put more tasks into the app."""

    def write(source: str) -> None:
        (tmp_path / "more.py").write_text("from shop import *\n" + textwrap.dedent(source))

    return write


@pytest.fixture
def store(home: Path) -> Iterator[SqliteStore]:
    """The shop's database, seen from outside."""
    store = SqliteStore(home / "shop.db")
    yield store
    store.close()
