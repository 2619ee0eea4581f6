"""One phase of one peer's measurement, in a process of its own; writes what it found as JSON.

    python measure.py PEER raw|fill|drain|live FOLDER RESULT.json OPTIONS.json

- raw: the commits that a job costs, with nothing but the sqlite3 module (the same for every peer).
- fill: calls in a loop while no pool runs, and leaves them in the store.
- drain: starts the pool on what `fill` has left, and waits until all of it has run.
- live: a pool with nothing to do: single calls, then a minute's rest, then calls in a loop.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import peers
import processes
import stamps

#: Jobs that make sure that the pool is up, before anything is measured.
WARM_UP = 20

#: Raw commits before each peer's calls, to tell a slow peer from a slow minute of the machine.
BESIDE = 300

Result = dict[str, Any]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` (0…1) of `values` do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def spread(nanoseconds: Sequence[int]) -> Result:
    """Median and 99th percentile in milliseconds, and of how many values."""
    half, most = percentile(nanoseconds, 0.50), percentile(nanoseconds, 0.99)
    return {
        "n": len(nanoseconds),
        "p50_ms": None if half is None else half / 1e6,
        "p99_ms": None if most is None else most / 1e6,
    }


def pauser() -> Callable[[], None]:
    """Sleeps for 5 to 50 ms, the same row of pauses for everybody."""
    choose = random.Random(1)
    return lambda: time.sleep(choose.uniform(0.005, 0.05))


def wait(ready: Callable[[], object], deadline: float, step: float = 0.001) -> bool:
    """Look every `step` seconds until `ready` says yes or the deadline has come. Whether it said yes."""
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def measure_raw(folder: Path, jobs: int, samples: int) -> Result:
    """The sqlite3 module alone."""
    from peers import raw

    connection = raw.connect(folder)
    paused = raw.enqueue(connection, samples, pauser())
    loop = raw.enqueue(connection, jobs, lambda: None)
    return {"enqueue": spread(paused), "loop": spread(loop), "drain": {"per_second": raw.drain(connection)}}


def fill(peer: peers.Peer, jobs: int) -> Result:
    """Calls in a loop, no pool running; and how long the sqlite3 module takes in the same minute."""
    from peers import raw

    beside = raw.enqueue(raw.connect(peer.folder), BESIDE, lambda: None)
    peer.open()
    taken = []
    for index in range(jobs):
        begin = time.monotonic_ns()
        peer.call(index)
        taken.append(time.monotonic_ns() - begin)
    return {"loop": spread(taken), "raw_beside": spread(beside)}


def drain(peer: peers.Peer, jobs: int, limit: float) -> Result:
    """From the start of the first job to the moment at which the store knows all as finished."""
    started = stamps.create(peer.folder / "drain.stamps", jobs)
    peer.open()
    peer.start()
    result = throughput(peer, started, limit)
    peer.stop()
    return {"drain": result}


def throughput(peer: peers.Peer, started: memoryview, limit: float, begin: int | None = None) -> Result:
    """Wait for jobs, at most `limit` seconds; jobs a second since `begin`, else since the first one."""
    jobs = len(started)
    deadline = time.monotonic() + limit
    complete = wait(lambda: all(started), deadline, 0.01) and wait(lambda: not peer.left(), deadline, 0.005)
    end = time.monotonic_ns()
    ran = [moment for moment in started if moment]
    if not ran:
        return {"ran": 0, "of": jobs, "per_second": None}
    seconds = (end - (begin or min(ran))) / 1e9
    return {"ran": len(ran), "of": jobs, "complete": complete, "per_second": len(ran) / seconds}


def live(peer: peers.Peer, mark: str, jobs: int, samples: int, idle: float, limit: float) -> Result:
    """A pool that is up and has nothing to do."""
    started = stamps.create(peer.folder / "live.stamps", WARM_UP + samples + jobs)
    peer.open()
    peer.start()
    for index in range(WARM_UP):
        peer.call(index)
    if not wait(lambda: all(started[:WARM_UP]), time.monotonic() + limit):
        raise RuntimeError(f"the pool did not run {WARM_UP} jobs within {limit:g} s")
    result = one_by_one(peer, started[WARM_UP : WARM_UP + samples], limit)
    time.sleep(1)
    result |= at_rest(mark, idle)
    begin = time.monotonic_ns()
    taken = []
    for index in range(WARM_UP + samples, len(started)):
        called = time.monotonic_ns()
        peer.call(index)
        taken.append(time.monotonic_ns() - called)
    result["busy_loop"] = spread(taken)
    result["end_to_end"] = throughput(peer, started[WARM_UP + samples :], limit, begin)
    peer.stop()
    return result


def one_by_one(peer: peers.Peer, started: memoryview, limit: float) -> Result:
    """One job at a time, each after a random pause that follows the one before."""
    calls, from_before, from_after = [], [], []
    pause = pauser()
    deadline = time.monotonic() + limit
    for index in range(len(started)):
        if time.monotonic() > deadline:
            break
        pause()
        before = time.monotonic_ns()
        peer.call(WARM_UP + index)
        after = time.monotonic_ns()
        if not wait(partial(started.__getitem__, index), deadline + limit):
            raise RuntimeError(f"a job on an idle pool did not start within {limit:g} s")
        calls.append(after - before)
        from_before.append(started[index] - before)
        from_after.append(started[index] - after)
    return {
        "enqueue": spread(calls),
        "dispatch": spread(from_before),
        "dispatch_after_call": spread(from_after),
    }


def at_rest(mark: str, seconds: float) -> Result:
    """What the idle pool costs: processor time, this process's threads included, and memory of the others."""
    if not seconds:
        return {}
    pids = processes.marked(mark)
    everybody = [*pids, os.getpid()]
    before = {pid: processes.cpu_seconds(pid) for pid in everybody}
    time.sleep(seconds)
    spent = sum(processes.cpu_seconds(pid) - before[pid] for pid in everybody)
    memory = sum(processes.pss_bytes(pid) for pid in pids)
    return {"idle_cpu_s_per_min": spent * 60 / seconds, "pss_bytes": memory, "processes": len(pids)}


def main() -> None:
    name, phase, folder, result_file, options_file = sys.argv[1:]
    options = json.loads(Path(options_file).read_text())
    jobs, samples, limit = options["jobs"], options["samples"], options["limit"]
    if phase == "raw":
        result = measure_raw(Path(folder), jobs, samples)
    else:
        peer = peers.load(name, Path(folder))
        if phase == "fill":
            result = fill(peer, jobs)
        elif phase == "drain":
            result = drain(peer, jobs, limit)
        else:
            mark = os.environ[processes.ENVIRONMENT]
            result = live(peer, mark, jobs, samples, options["idle"], limit)
        result |= {"durable": peer.durable, "settings": peer.settings}
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
