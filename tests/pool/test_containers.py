"""Apps in process namespaces of their own, as in containers that share a volume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from autocron_web.launch import ask_monitor
from conftest import Script, cannot_run, need, wait_until
from pool_app import App, alive, app, pids, wait_for_pool  # noqa: F401

pytestmark = [pytest.mark.once, pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")]

ENCLOSED = ("--pid", "--fork", "--kill-child", "--mount-proc")


class Enclose(Protocol):
    def __call__(self, *calls: str) -> Script: ...


@pytest.fixture
def enclosed(app: App) -> Iterator[Enclose]:
    """Start an app process that is the first one of its namespace: when that ends, so does all in it."""
    command = [need("unshare"), *ENCLOSED]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        cannot_run("this user may not make process namespaces")
    scripts: list[Script] = []

    def start(*calls: str) -> Script:
        scripts.append(app.run(*calls, through=[*command, sys.executable]))
        return scripts[-1]

    yield start
    for script in scripts:
        script.kill()


def apps(app: App) -> int:
    told = ask_monitor(app.store.name, 10)
    assert isinstance(told, dict), told
    return len(told["apps"])


def children(pid: int) -> list[int]:
    """Those of all threads of a process, zombies too."""
    found = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for each in found for child in each]


def test_each_of_two_processes_that_the_monitor_cannot_see_counts(app: App, enclosed: Enclose) -> None:
    first, second, third = (enclosed() for _ in range(3))
    assert apps(app) == 3
    third.kill()
    wait_until(lambda: apps(app) == 2, 20, "the end of one")
    enclosed("tell:fourth")
    app.wait_for("tell fourth")
    assert apps(app) == 3
    second.kill()
    wait_until(lambda: apps(app) == 2, 20, "the end of another")
    assert first.process.poll() is None


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_first_process_of_a_container_has_no_zombie_of_a_monitor(
    app: App, enclosed: Enclose, end: str
) -> None:
    script = enclosed()
    (first,) = children(script.pid)
    (monitor,), _ = wait_for_pool()
    assert children(first) == [monitor]
    if end == "kill":
        os.kill(monitor, signal.SIGKILL)
        wait_until(lambda: pids("monitor") - {monitor}, 20, "another monitor")
    else:
        subprocess.run([sys.executable, "-m", "autocron_web", app.store.name, "stop"], check=True, timeout=60)
    wait_until(
        lambda: not Path(f"/proc/{monitor}").exists(), 20, "the end of the first monitor, zombie included"
    )
    assert alive(first)
