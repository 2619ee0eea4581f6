"""The app of the random run, copied to a folder of each: its every call and run stands in ledgers.

An accepted call is noted, and on disk, before the next one is made. A run is noted when it begins and ends,
and holds a lock of its job's that a second run at the same time finds.

Arguments: the calls per second, a seed, and the name of the database. FAULTS in the environment says which
faults this process causes itself, and how often: `cancel=0.05,print=1`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import autocron_web as autocron
from autocron_web.engine import engine

FOLDER = os.environ["LEDGERS"]
ARGUMENTS = sys.argv[1:]  # in a worker those of the worker, which calls nothing
CHANCES = dict(pair.split("=") for pair in filter(None, os.environ.get("FAULTS", "").split(",")))
WORKERS = int(os.environ.get("WORKERS", "3"))
MANY = 40  # calls of one `enqueue_many`: as many as lie on shelves
AT_ONCE = 0.015  # the share of these among the calls

_ledgers: dict[str, int] = {}


def ledger(name: str) -> int:
    """Open for good: at times this process has no descriptor left."""
    if name not in _ledgers:
        _ledgers[name] = os.open(f"{FOLDER}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return _ledgers[name]


def write(name: str, *lines: tuple[object, ...], sync: bool = False) -> None:
    os.write(ledger(name), "".join(" ".join(map(str, words)) + "\n" for words in lines).encode())
    if sync:
        os.fsync(ledger(name))


# -- tasks -----------------------------------------------------------------------------------------------
# Each call has a token, so that one which was interrupted and is stored twice can be told.


@contextlib.contextmanager
def noted(lines: int = 0) -> Iterator[None]:
    job = engine.client.parent  # type: ignore[attr-defined]  # that of a worker
    lock = os.open(f"{FOLDER}/locks/{job}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        write("overlaps", (job, os.getpid()))
    write("runs", ("start", job, os.getpid(), time.monotonic()))
    try:
        for number in range(lines):
            print(f"line {number} of {job}", "." * 100)
        yield
        if lines:
            print("last words of", job)
        write("runs", ("end", job, os.getpid()))
    finally:
        os.close(lock)


@autocron.delay
def short(token: str, lines: int = 0) -> None:
    with noted(lines):
        pass


@autocron.delay
def long(token: str, seconds: float, lines: int = 0) -> None:
    with noted(lines):
        time.sleep(seconds)


@autocron.delay(timeout=5, retries=20, backoff=0.1)
def limited(token: str, seconds: float, lines: int = 0) -> None:
    with noted(lines):
        time.sleep(seconds)


@autocron.delay(timeout=5, retries=20, backoff=0.1, concurrency=5)
async def beside(token: str, seconds: float, lines: int = 0) -> None:
    import asyncio  # here, as each app process would take a while for it

    with noted(lines):
        await asyncio.sleep(seconds)


@autocron.delay(retries=2, backoff=0.1)
def failing(token: str, lines: int = 0) -> None:
    with noted(lines):
        time.sleep(0.01)
    raise ValueError("as it should")


@autocron.every(seconds=1)
def tick() -> None:
    with noted():
        time.sleep(0.01)


# -- calls -----------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """Raised by the handler of SIGALRM, wherever a call is."""


class Caller:
    """Makes calls, some of them in bad circumstances."""

    def __init__(self, seed: str, database: str) -> None:
        self._dice = random.Random(seed)
        self._database = database
        self._numbers = itertools.count()
        self._is_full = False  # there is no descriptor left
        self._recent: deque[autocron.Result[Any]] = deque(maxlen=2 * MANY)
        for name in ("calls", "refusals", "cancels"):
            ledger(name)

    def start(self) -> None:
        autocron.start(self._database, workers=WORKERS)

    def leave(self) -> None:
        """Do not count for a moment, as a worker that its server replaces, while there is work."""
        self._call_or_note(0)
        time.sleep(self._dice.choice((0, 0.005, 0.02)))
        autocron.leave()
        time.sleep(0.3)  # in which the others leave, too
        self.start()

    def call(self) -> None:
        """One call, or many at once, and what may happen around it."""
        try:
            with contextlib.ExitStack() as circumstances:
                for name, circumstance in CIRCUMSTANCES.items():  # the last one is closest to the call
                    if self._dice.random() < float(CHANCES.get(name, 0)):
                        circumstances.enter_context(circumstance(self))
                self._call_or_note(self._dice.random())
        except Interrupted:
            pass  # the call is stored, or not

    def _call_or_note(self, kind: float) -> None:
        token = f"{os.getpid()}-{next(self._numbers)}"
        try:
            results = self._make(token, kind)
        except Interrupted:
            raise
        except Exception as error:
            write("refusals", (type(error).__name__, token, self._is_full, error))
        else:
            write("calls", *[(result.id,) for result in results], sync=True)
            self._recent.extend(results)

    def _make(self, token: str, kind: float) -> list[autocron.Result[Any]]:
        dice = self._dice
        busy = dice.random() * WORKERS / 3  # seconds: no more than they can do
        lines = dice.choice((0, 0, 1, 1, 20)) if "print" in CHANCES else 0
        if kind < AT_ONCE:
            return short.enqueue_many([(f"{token}.{number}", min(lines, 1)) for number in range(MANY)])
        if kind < 0.4:
            return [short(token, lines)]
        if kind < 0.6:
            return [beside(token, busy, lines)]
        if kind < 0.8:
            return [long(token, busy * 0.3, lines)]
        if kind < 0.95:
            return [limited(token, busy * 0.1, lines)]
        return [failing(token, lines)]

    # -- circumstances -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cancel(self) -> Iterator[None]:
        """Some of the last calls are cancelled, also of many that are just being taken from shelves."""
        yield
        self._call_or_note(0)
        time.sleep(self._dice.choice((0, 0.005, 0.02)))
        for result in self._dice.sample(self._recent, min(len(self._recent), self._dice.randint(1, 25))):
            write("cancels", ("asked", result.id))
            try:
                answer, state = result.cancel(), result.status
            except autocron.AutocronError as error:
                write("refusals", (type(error).__name__, "cancel", self._is_full, error))
            else:
                write("cancels", ("answered", result.id, answer, state, time.monotonic()))

    @contextlib.contextmanager
    def descriptors(self) -> Iterator[None]:
        """No descriptor is left."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, before[1])
        )
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            self._is_full = True
            yield
        finally:
            self._is_full = False
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for fd in taken:
                os.close(fd)

    @contextlib.contextmanager
    def interrupt(self) -> Iterator[None]:
        """The handler of a signal raises in the middle of it."""
        try:
            signal.setitimer(signal.ITIMER_REAL, self._dice.uniform(20e-6, self._dice.choice((250e-6, 3e-3))))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


CIRCUMSTANCES: dict[str, Callable[[Caller], contextlib.AbstractContextManager[None]]] = {
    "cancel": Caller.cancel,
    "descriptors": Caller.descriptors,
    "interrupt": Caller.interrupt,
}


def main() -> None:
    """Call until SIGUSR1; from then on only live, until SIGTERM. At SIGUSR2 leave for a moment."""
    calling, leaving = True, False

    def end_calls(*_: object) -> None:
        nonlocal calling
        calling = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True

    def interrupt(*_: object) -> None:
        raise Interrupted

    signal.signal(signal.SIGUSR1, end_calls)
    signal.signal(signal.SIGUSR2, leave)
    signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(not autocron.stop(20)))
    rate, caller = float(ARGUMENTS[0]), Caller(*ARGUMENTS[1:])
    caller.start()
    print("started", flush=True)
    while True:
        time.sleep(1 / rate if calling else 0.1)
        if leaving:
            leaving = False
            caller.leave()
        if calling:
            caller.call()
