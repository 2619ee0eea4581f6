"""Starting a monitor from an app process, and waiting for its end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from .process import interpreter, open_pidfd, pool_command, readable, start_time, worker_environment
from .settings import warn

LOOK = 0.01  # seconds between looks at a process of which there is no pidfd


def start_monitor(path: str, options: dict[str, Any], deadline: float) -> bool:
    """Start a monitor for this database; whether it has won the election and takes connections.

    deadline: a moment of `time.monotonic()`.
    """
    out, into = os.pipe()
    command = pool_command(interpreter(), "monitor", path, str(into), json.dumps(options))
    try:
        launcher = subprocess.Popen(
            command,
            env=worker_environment(os.environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=(into,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(out)
        warn(f"the pool cannot be started: {command[0]}: {error.strerror}")
        return False
    finally:
        os.close(into)
    try:
        answered = readable([out], max(0.0, deadline - time.monotonic()))
        return bool(answered and os.read(out, 1))
    finally:
        os.close(out)
        launcher.wait()  # it forks and ends at once, so that the monitor is nobody's child here


def wait_for_end(pid: int, deadline: float | None) -> bool:
    """Wait until the process has ended; False at the deadline."""
    pidfd = open_pidfd(pid)
    if pidfd is not None:
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return bool(readable([pidfd], left))
        finally:
            os.close(pidfd)
    while start_time(pid) is not None:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(LOOK)
    return True
