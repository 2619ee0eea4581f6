"""Calls that are interrupted by an exception, at each step: nothing stays locked, nothing is stored twice."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from interrupted import Interrupt, each_step, in_a_thread, interrupt
from places import NOW, Child, job
from sqlite_place import OWNER, own, path, store  # noqa: F401

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore

pytestmark = [
    pytest.mark.usefixtures("interrupted_steps"),
    pytest.mark.once,  # nothing here depends on the version of Python
    # A file that was being opened when its step was interrupted is closed by the interpreter.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def require_free(path: Path, where: str) -> None:
    """Fail if the file is locked."""
    with closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            pytest.fail(f"{error} after an exception at {where}")


def require_use(store: SqliteStore, path: Path, where: str, *, anew: bool = False) -> list[str]:
    """Fail if the store cannot be used any more, by anybody; the jobs that were stored to find out."""
    require_free(path, where)
    try:
        if anew:
            store.close()
        stored = in_a_thread(lambda: store.enqueue([job()])) + store.enqueue([job()])
        assert in_a_thread(lambda: store.get(stored[0])) is not None
        assert store.get(stored[1]) is not None
    except BaseException as error:
        pytest.fail(f"{error!r} after an exception at {where}")
    return stored


@pytest.mark.parametrize("lines", [True, False], ids=["lines", "instructions"])
@pytest.mark.parametrize("opened", [True, False], ids=["open", "opening"])
def test_an_interrupted_call_is_stored_or_not(
    store: SqliteStore, path: Path, lines: bool, opened: bool
) -> None:
    wanted: list[Job] = []
    expected: set[str] = set()

    def enqueue(_: int) -> None:
        if not opened:
            store.close()
        wanted.append(job())
        store.enqueue(wanted[-1:])

    kept: list[Interrupt] = []
    stride = 1 if opened else 7 if lines else 101
    for where in each_step(enqueue, interrupt, lines=lines, stride=stride, kept=kept):
        expected.update(require_use(store, path, where, anew=not opened))
    assert len(kept) > 30
    with_it = expected | {each.id for each in wanted}
    found = [each.id for each in store.jobs(limit=100_000)]
    assert expected <= set(found) <= with_it
    assert len(found) == len(set(found))


def settings(store: SqliteStore, number: int) -> None:
    store.set_setting("number", str(number))


def annotate(store: SqliteStore, number: int) -> None:
    store.annotate("an id", 1, {"progress": [number, None, None]})


def batch(store: SqliteStore, number: int) -> None:
    with store.batch():
        store.set_setting("number", str(number))
        store.setting("number")


def open_and_close(store: SqliteStore, number: int) -> None:
    store.close()
    store.open()


def read(store: SqliteStore, number: int) -> None:
    store.get("an id")


def read_anew(store: SqliteStore, number: int) -> None:
    store.close()
    store.counts()


def look_after_it(store: SqliteStore, number: int) -> None:
    store.check()
    store.changed()
    store.tidy()


def cancel_and_retry(store: SqliteStore, number: int) -> None:
    store.cancel("an id", NOW, "by a test")
    store.retry("an id", NOW)


def claim(store: SqliteStore, number: int) -> None:
    store.claim(OWNER, 1, 5, NOW)
    store.next_due(NOW)


@pytest.mark.parametrize(
    "call",
    [annotate, batch, cancel_and_retry, claim, look_after_it, open_and_close, read, read_anew, settings],
)
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "instructions"])
def test_an_interrupted_call_leaves_nothing_locked(
    store: SqliteStore, path: Path, call: Callable[[SqliteStore, int], None], lines: bool
) -> None:
    store.enqueue([job(id="an id", unique_key="a key")])
    kept: list[Interrupt] | None = [] if call is not batch else None  # a traceback keeps a batch open
    anew = call in (open_and_close, read_anew)
    stride = (7 if anew else 1) if lines else (101 if anew else 7)
    steps = 0
    for where in each_step(
        lambda number: call(store, number), interrupt, lines=lines, stride=stride, kept=kept
    ):
        require_use(store, path, where, anew=anew)
        steps += 1
    assert steps > 10


def test_an_interrupted_fork_leaves_nothing_locked(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python forks although a hook has raised: the child must not inherit a connection even then."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    inherited: list[object] = []

    def fork(_: int) -> None:
        store.enqueue([job()])
        store.counts()
        Child(lambda: None).result()
        inherited.append(own(store).writer or own(store).reader)

    for where in each_step(
        fork, interrupt, lines=True, only="hold_for_fork _before_fork _after_fork_in_parent"
    ):
        assert inherited[-1] is None, where
        require_use(store, path, where)
    assert len(inherited) > 20
