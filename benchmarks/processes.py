"""The processes of one measurement, found by a mark in their environment, and what they cost (Linux)."""

from __future__ import annotations

import os
import signal
import time

#: Whatever is started with this variable, and whatever that starts in turn, belongs to the measurement.
ENVIRONMENT = "BENCH_RUN"


def marked(mark: str) -> list[int]:
    """The ids of all living processes with this mark, except the one that asks."""
    wanted = f"{ENVIRONMENT}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                pass  # it has ended, or belongs to somebody else
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, to a clock tick (10 ms). 0.0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wake_ups(pid: int) -> int:
    """How often the threads of a process have begun to run after a wait so far. 0 if it has ended."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith(b"voluntary_ctxt"))
    except OSError:
        pass
    return total


def pss_bytes(pid: int) -> int:
    """The memory of a process, what it shares divided among those that share it. 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def end(mark: str, timeout: float = 10.0) -> int:
    """Kill what is left of a measurement and wait until it is gone. How many processes were left."""
    left = marked(mark)
    deadline = time.monotonic() + timeout
    while pids := marked(mark):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {pids} of a measurement could not be ended within {timeout:g} s")
        time.sleep(0.05)
    return len(left)
