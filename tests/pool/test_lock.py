"""The lock file of a store: what an earlier monitor has left, and what only has its number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autocron_web.pool.lock import Lock, namespace
from autocron_web.process import start_time


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group and session of its own, as a worker is."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as it:
        yield it
        it.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to tell when a process began")
def test_92_a_process_with_the_number_of_a_worker_of_another_boot_is_left_alone(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    worker = f"{process.pid} {start_time(process.pid)} {process.pid}"
    file = tmp_path / "shop.db.lock"
    _, _, pid_namespace = namespace().partition("/")
    file.write_text(f"{worker} 00000000-0000-0000-0000-000000000000/{pid_namespace}\n")
    lock = Lock(str(file))
    assert lock.take()
    assert lock.end_earlier_workers() == 0
    assert process.poll() is None
    file.write_text(f"{worker} {namespace()}\n")
    assert lock.end_earlier_workers() == 1
    assert process.wait(10) == -9
