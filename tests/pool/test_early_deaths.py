"""A monitor that has died soon after its start, again and again, begins its work after a pause."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from autocron_web.launch import ask_monitor
from autocron_web.pool import lock as locks
from autocron_web.pool.lock import Lock
from conftest import wait_until
from pool_app import App, app, wait_for_pool  # noqa: F401


def life(path: Path, deaths: int, began: float, *, orderly: bool = False) -> None:
    """A monitor has lived and ended."""
    lock = Lock(str(path))
    assert lock.take()
    lock.write_life(deaths, began)
    lock.write_workers([os.getpid()])
    if orderly:
        lock.write_end()
    os.close(lock._fd)


def deaths(path: Path) -> int:
    lock = Lock(str(path))
    assert lock.take()
    try:
        return lock.early_deaths()
    finally:
        os.close(lock._fd)


def test_deaths_in_a_row_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, moment = tmp_path / "lock", time.monotonic()
    assert deaths(path) == 0
    life(path, 0, moment)
    assert deaths(path) == 1
    life(path, 1, moment + 30)  # it died in its pause
    assert deaths(path) == 2
    life(path, 2, moment - locks.YOUNG - 1)  # a long life
    assert deaths(path) == 0
    life(path, 7, moment, orderly=True)
    assert deaths(path) == 0
    life(path, 7, moment)
    monkeypatch.setattr(locks, "namespace", lambda: "another-boot")
    assert deaths(path) == 0


@pytest.mark.parametrize(
    "text", [b"", b"monitor", b"monitor x y z\n", b"monitor 1 nan\n", b"\xff\xfe monitor", b"7 7 7 " * 99]
)
def test_a_line_that_is_none_counts_nothing(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lock"
    path.write_bytes(text)
    assert deaths(path) == 0


def kill(monitor: int) -> dict[str, Any]:
    """Kill the monitor; what the next one tells of itself."""
    os.kill(monitor, signal.SIGKILL)
    path = os.environ["AUTOCRON_HOME"] + "/faults.db"
    told: Any = None

    def another() -> bool:
        nonlocal told
        told = ask_monitor(path, 2.0)
        return isinstance(told, dict) and told["pid"] != monitor

    wait_until(another, 30, "another monitor")
    assert isinstance(told, dict)
    return told


@pytest.mark.timeout(120)
def test_after_deaths_in_a_row_the_pool_begins_later(app: App, home: Path) -> None:
    script = app.run("tell:a")
    app.wait_for("tell a")
    ((monitor,), _) = wait_for_pool()
    told = kill(monitor)
    assert told["pause"] is None  # a single death is healed at once
    told = kill(told["pid"])
    told = kill(told["pid"])
    assert "times in a row" in told["pause"]
    assert told["workers"] == []
    wait_until(lambda: "times in a row" in script.stderr, 20, "a line in the log")
    app.run("tell:b")
    wait_for_pool(timeout=60)  # the pause is over
    app.wait_for("tell b", timeout=30)
    assert script.stderr.count(" times in a row") <= 3  # one for each monitor
