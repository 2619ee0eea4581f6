"""Real signals and asynchronous exceptions around calls, in a real process beside another one."""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from places import Child, job
from sqlite_place import is_sound, path, store  # noqa: F401

from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until

pytestmark = [
    pytest.mark.once,  # nothing here depends on the version of Python
    pytest.mark.usefixtures("interrupted_steps"),
]

CALLS = 1500


class TooLateError(Exception):
    """The time limit of a request is over."""


def late(*_: object) -> None:
    raise TooLateError


def interrupted_calls(store: SqliteStore, calls: int = CALLS) -> tuple[list[str], list[str], int]:
    """Calls with a time limit of microseconds: what was stored and wanted, how many were interrupted."""
    signal.signal(signal.SIGALRM, late)
    stored, wanted, interrupted = [], [], 0
    for number in range(calls):
        wanted.append(job().id)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, (20 + number * 7 % 300) / 1e6)
                stored += store.enqueue([job(id=wanted[-1])])
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TooLateError:
            interrupted += 1
        if number % 50 == 0:
            stored += store.enqueue([job(id=wanted[-1])])  # the same again
    return stored, wanted, interrupted


def answers_in_time(path: Path, call: Callable[[], Any]) -> Any:
    """What the call returns, while another process needs the store as well, and has it at once."""
    ready, stop = os.pipe(), os.pipe()

    def use() -> float:
        longest = 0.0
        os.set_blocking(stop[0], False)
        with closing(SqliteStore(path, durability="normal")) as other:
            other.open()
            os.write(ready[1], b"!")
            while True:
                began = time.monotonic()
                other.set_setting("word", "written")
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.002)
                try:
                    os.read(stop[0], 1)
                    return longest
                except BlockingIOError:
                    pass

    child = Child(use)
    os.read(ready[0], 1)
    try:
        return call()
    finally:
        os.write(stop[1], b"!")
        assert child.result() < 4  # less than the busy timeout: nobody has kept the lock
        for end in (*ready, *stop):
            os.close(end)


def found(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as other:
        return [row[0] for row in other.execute("SELECT id FROM autocron_job")]


def test_time_limits_of_microseconds(store: SqliteStore, path: Path) -> None:
    def call() -> Any:
        return Child(interrupted_calls, store).result(60)

    stored, wanted, interrupted = answers_in_time(path, call)
    assert interrupted > CALLS / 20
    ids = found(path)
    assert len(ids) == len(set(ids))
    assert set(stored) <= set(ids) <= set(wanted)
    assert is_sound(path)


def test_time_limits_beside_threads_that_call(store: SqliteStore, path: Path) -> None:
    """Followers of a leader that is interrupted get their right answer, and go on."""

    def call() -> tuple[list[str], list[str], int]:
        others: list[str] = []
        end = threading.Event()

        def follow() -> None:
            while not end.is_set():
                others.extend(store.enqueue([job()]))

        threads = [threading.Thread(target=follow) for _ in range(3)]
        for thread in threads:
            thread.start()
        stored, wanted, interrupted = interrupted_calls(store, CALLS // 3)
        end.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        return stored + others, wanted + others, interrupted

    stored, wanted, interrupted = Child(call).result(60)
    assert interrupted > 10
    ids = found(path)
    assert len(ids) == len(set(ids))
    assert len(stored) == len(set(stored)) or set(stored) <= set(wanted)
    assert set(stored) <= set(ids) <= set(wanted)


def test_asynchronous_exceptions_of_another_thread(store: SqliteStore, path: Path) -> None:
    def call() -> tuple[list[str], list[str], int]:
        stored: list[str] = []
        wanted: list[str] = []
        raised = 0
        thread = threading.get_ident()
        calling, end = threading.Event(), threading.Event()

        def disturb() -> None:
            while not end.is_set():
                if calling.wait(0.01) and calling.is_set():
                    calling.clear()
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TooLateError)
                    )

        disturber = threading.Thread(target=disturb)
        disturber.start()
        sys.setswitchinterval(1e-5)
        for _ in range(CALLS // 3):
            wanted.append(job().id)
            try:
                calling.set()
                stored += store.enqueue([job(id=wanted[-1])])
                while not end.is_set() and calling.is_set():
                    time.sleep(0)
            except TooLateError:
                raised += 1
        end.set()
        for _ in range(3):
            try:
                disturber.join(10)
                break
            except TooLateError:
                pass
        sys.setswitchinterval(0.005)
        return stored + store.enqueue([job(id=wanted[-1])]), wanted, raised

    stored, wanted, raised = answers_in_time(path, lambda: Child(call).result(60))
    assert raised > 20
    ids = found(path)
    assert len(ids) == len(set(ids))
    assert set(stored) <= set(ids) <= set(wanted)


def test_ctrl_c_again_and_again(store: SqliteStore, path: Path) -> None:
    def call() -> list[str]:
        armed: list[bool] = []

        def interrupt(*_: object) -> None:
            if armed:
                armed.clear()
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        stored, interrupted = [], 0
        os.write(ready[1], b"!")
        while interrupted < 40:
            try:
                armed.append(True)
                stored += store.enqueue([job()])
                armed.clear()
            except KeyboardInterrupt:
                interrupted += 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stored += store.enqueue([job()])
        return sorted(set(stored) - set(found(path)))  # all of them are more than a pipe holds

    ready = os.pipe()
    child = Child(call)
    os.read(ready[0], 1)

    def ended() -> bool:
        os.kill(child.pid, signal.SIGINT)
        with open(f"/proc/{child.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"

    wait_until(ended, 40, "the calls go on")
    assert child.result() == []
    for end in ready:
        os.close(end)


def test_forks_that_are_interrupted(store: SqliteStore, path: Path) -> None:
    """Python only prints what a hook has raised, and forks: the exception reaches nobody."""

    def fork_with_limits() -> list[str]:
        signal.signal(signal.SIGALRM, late)
        sys.unraisablehook = lambda *_: None
        ids: list[str] = []
        for number in range(100):
            ids += store.enqueue([job()])
            pid = -1
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, (5 + number * 37 % 1000) / 1e6)
                    pid = os.fork()
                    if pid == 0:
                        os._exit(0)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except TooLateError:
                if pid == 0:
                    os._exit(0)
            if pid > 0:
                os.waitpid(pid, 0)
            answers: list[str] = []
            thread = threading.Thread(target=lambda: answers.extend(store.enqueue([job()])))  # noqa: B023
            thread.start()
            thread.join(10)
            assert answers, f"after {number} forks a call of another thread hangs"
            ids += answers
        return ids

    ids = Child(fork_with_limits).result(60)
    assert sorted(ids) == sorted(found(path))
    assert is_sound(path)
