"""What autocron-web costs by itself: start, commits of many callers, silence, rest, jobs that compute.

    python benchmarks/alone.py [--quick] [--only NAME]…

Every measurement is a process of its own on a store of its own, and whatever it starts is ended with it.
What the rows mean stands in docs/benchmarks.md. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import peers
import processes
import stamps

LIMIT = 60.0  # seconds in which jobs must have started, beside the waiting that is part of a measurement

Figures = dict[str, float]


class Size(NamedTuple):
    """How much is measured."""

    starts: int  # processes
    calls: int  # of each kind of callers
    turns: int  # calls one after the other
    silence: float  # seconds
    silences: int
    rest: float  # seconds
    computing: int  # jobs


FULL = Size(starts=10, calls=4000, turns=1000, silence=120.0, silences=3, rest=60.0, computing=400)
QUICK = Size(starts=3, calls=400, turns=100, silence=5.0, silences=2, rest=10.0, computing=40)


def cold(folder: Path, size: Size) -> Figures:
    """From before `start()`, where neither store nor pool exists, to the first line of the first job."""
    started = stamps.create(folder / "stamps", 1)
    begin = time.monotonic_ns()
    peer = peers.load("autocron-web", folder)
    peer.open()
    peer.start()
    peer.call(0)
    until(lambda: started[0])
    peer.stop()
    return {"cold start to first job, ms": (started[0] - begin) / 1e6}


def callers(folder: Path, size: Size) -> Figures:
    """Calls a second by one thread, by eight threads of a process, and by eight processes; no pool runs."""
    peer = peers.load("autocron-web", folder)
    peer.open()
    found = {"calls/s, 1 thread": per_second(peer, 1, size.calls)}
    found["calls/s, 8 threads"] = per_second(peer, 8, size.calls)
    command = [sys.executable, __file__, "--measure", "caller", "--folder", str(folder), *sizing(size)]
    begin = time.monotonic()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(8)]
    answers = [json.loads(process.communicate()[0]) for process in running]
    ends = [answer["end"] for answer in answers]
    first = min(answer["begin"] for answer in answers)
    assert first > begin
    found["calls/s, 8 processes"] = size.calls / (max(ends) - first)
    found["calls refused, 8 processes"] = sum(answer["refused"] for answer in answers)
    return found


def caller(folder: Path, size: Size) -> Figures:
    """One of the eight processes."""
    peer = peers.load("autocron-web", folder)
    peer.open()
    refused = 0
    begin = time.monotonic()
    for index in range(size.calls // 8):
        try:
            peer.call(index)
        except Exception:
            refused += 1
    return {"begin": begin, "end": time.monotonic(), "refused": refused}


def per_second(peer: peers.Peer, threads: int, calls: int) -> float:
    def work() -> None:
        for index in range(calls // threads):
            peer.call(index)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return calls / (time.monotonic() - begin)


def turns(folder: Path, size: Size) -> Figures:
    """Calls that follow each other without a pause, each made as soon as the one before has its result."""
    started = stamps.create(folder / "stamps", size.turns + 1)
    peer = pool(folder, started)
    from peers import web_tasks

    begun, ended = [], []
    for index in range(1, size.turns + 1):
        begin = time.monotonic_ns()
        web_tasks.mark(index).get(timeout=LIMIT)
        ended.append((time.monotonic_ns() - begin) / 1e6)
        begun.append((started[index] - begin) / 1e6)
    peer.stop()
    return {
        "dispatch without a pause, p50 ms": statistics.median(begun),
        "dispatch without a pause, p99 ms": statistics.quantiles(begun, n=100)[-1],
        "result without a pause, p50 ms": statistics.median(ended),
    }


def silence(folder: Path, size: Size) -> Figures:
    """From before a call to the first line of its job, after nothing has happened for a while."""
    started = stamps.create(folder / "stamps", size.silences + 1)
    peer = pool(folder, started)
    taken = []
    for index in range(1, size.silences + 1):
        time.sleep(size.silence)
        begin = time.monotonic_ns()
        peer.call(index)
        until(lambda index=index: started[index])  # type: ignore[misc]
        taken.append((started[index] - begin) / 1e6)
    peer.stop()
    return {f"dispatch after {size.silence:g} s of silence, ms": statistics.median(taken)}


def rest(folder: Path, size: Size) -> Figures:
    """A pool with nothing to do: processor time, wake-ups of all its threads and the app's, memory."""
    peer = pool(folder, stamps.create(folder / "stamps", 1))
    time.sleep(6)  # a first look after the start
    pids = processes.marked(os.environ[processes.ENVIRONMENT])
    everybody = [*pids, os.getpid()]
    spent = sum(map(processes.cpu_seconds, everybody))
    woken = sum(map(processes.wake_ups, everybody))
    time.sleep(size.rest)
    spent = sum(map(processes.cpu_seconds, everybody)) - spent
    woken = sum(map(processes.wake_ups, everybody)) - woken - 1  # the one of this line
    memory = sum(map(processes.pss_bytes, pids))
    peer.stop()
    return {
        "idle CPU, s/min": spent * 60 / size.rest,
        "idle wake-ups/s": woken / size.rest,
        "PSS of monitor and two workers, MiB": memory / 2**20,
    }


def computing(folder: Path, size: Size) -> Figures:
    """Jobs a second that compute for some milliseconds, with one worker, and with one for each core."""
    found = {}
    for workers in (1, os.cpu_count() or 1):
        command = [sys.executable, __file__, "--measure", "computed", "--folder", str(folder), *sizing(size)]
        environment = {**os.environ, "BENCH_WORKERS": str(workers)}
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        found[f"computing jobs/s, {workers} workers"] = json.loads(answer)["per_second"]
    return found


def computed(folder: Path, size: Size) -> Figures:
    """One of the two runs."""
    workers = int(os.environ["BENCH_WORKERS"])
    started = stamps.create(folder / f"stamps-{workers}", size.computing + 1)
    import autocron_web as autocron
    from peers import web_tasks

    autocron.start(folder / f"computing-{workers}.db", workers=workers, strict=True)
    web_tasks.mark(size.computing)
    until(lambda: started[size.computing])
    begin = time.monotonic_ns()
    results = web_tasks.compute.enqueue_many([(index,) for index in range(size.computing)])
    for result in results:
        result.get(timeout=LIMIT)
    end = time.monotonic_ns()
    autocron.stop(timeout=10)
    return {"per_second": size.computing / ((end - begin) / 1e9)}


def pool(folder: Path, started: memoryview) -> peers.Peer:
    """A pool that has run job 0."""
    peer = peers.load("autocron-web", folder)
    peer.open()
    peer.start()
    peer.call(0)
    until(lambda: started[0])
    return peer


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"a job did not start within {LIMIT:g} s")
        time.sleep(0.0005)


Measurement = Callable[[Path, Size], Figures]
MEASUREMENTS: dict[str, Measurement] = {
    measurement.__name__: measurement for measurement in (cold, callers, turns, silence, rest, computing)
}
PARTS: dict[str, Measurement] = {part.__name__: part for part in (caller, computed)}


def sizing(size: Size) -> list[str]:
    return ["--quick"] if size is QUICK else []


def run(name: str, size: Size) -> Figures:
    """One measurement in a process of its own."""
    mark = uuid.uuid4().hex
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        processes.ENVIRONMENT: mark,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with tempfile.TemporaryDirectory(prefix="autocron-bench-") as folder:
        command = [sys.executable, __file__, "--measure", name, "--folder", folder, *sizing(size)]
        try:
            answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        finally:
            processes.end(mark)
    found: Figures = json.loads(answer.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a result")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="this one (may be repeated)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    if given.measure:
        print(json.dumps((MEASUREMENTS | PARTS)[given.measure](given.folder, size)))
        return 0
    rows: dict[str, list[float]] = {}
    for name in given.only or MEASUREMENTS:
        for _ in range(size.starts if name == "cold" else 1):
            for what, figure in run(name, size).items():
                rows.setdefault(what, []).append(figure)
    print("| autocron-web alone | |\n| --- | ---: |")
    for what, figures in rows.items():
        print(f"| {what} | {written(figures)} |")
    return 0


def written(figures: list[Any]) -> str:
    middle = statistics.median(figures)
    text = f"{middle:.2f}" if middle < 100 else f"{middle:.0f}"
    return text if len(figures) == 1 else f"{text} (at most {max(figures):.0f})"


if __name__ == "__main__":
    sys.exit(main())
