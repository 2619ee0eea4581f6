"""Faults at random under load; the ledgers must agree. Which faults there are: `randomfaults.py`.

AUTOCRON_RANDOM_SECONDS: how long; 20, and 60 in `make matrix`. For hours: `-o faulthandler_timeout=0` too.
AUTOCRON_RANDOM_FAULTS: which faults, such as `kill,cancel`; all. `none` for the load alone.
AUTOCRON_RANDOM_PAUSE: seconds between two faults, on average; 0.45.
AUTOCRON_RANDOM_SEED: the seed of an earlier run, which it has printed, to have the same faults again.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import randomfaults
import storefaults
from autocron_web.store.sqlite import SqliteStore
from autocron_web.store.sqlite_file import LARGE_WAL
from conftest import CHECKOUT, RunScript, Script, pool_processes, wait_until
from ledgers import Disturbance, Ledgers
from randomfaults import APPS, Chaos
from storefaults import StoreFaults

SHORT, IN_MATRIX = 20.0, 60.0  # seconds
GIVEN = os.environ.get("AUTOCRON_RANDOM_SECONDS")
PAUSE = float(os.environ.get("AUTOCRON_RANDOM_PAUSE") or 0.45)
SEED = int(os.environ.get("AUTOCRON_RANDOM_SEED") or random.SystemRandom().randrange(10**6))
LONG = 300.0  # seconds: in a shorter run most processes are too young to tell whether they grow
WORKERS = SEED % 3 + 1  # the loss of one of them is noticed where there are no others
RATE = 8.0  # calls of each app process in a second


def chosen_faults() -> set[str]:
    names = set(filter(None, (os.environ.get("AUTOCRON_RANDOM_FAULTS") or "").split(",")))
    unknown = names - randomfaults.ALL - {"none"}
    assert not unknown, f"no such faults: {unknown}; there are {sorted(randomfaults.ALL)}"
    return names - {"none"} if names else set(randomfaults.ALL)


FAULTS = chosen_faults()
DURATIONS = [float(GIVEN)] if GIVEN else [SHORT, pytest.param(IN_MATRIX, marks=pytest.mark.matrix)]


@pytest.fixture
def small_disk(home: Path) -> Iterator[bool]:
    """Whether `home` is on a disk of its own, which can be filled; not without the right to mount one."""
    unmount = storefaults.small_disk(home, f"{256 + int(float(GIVEN or 0)) // 8}m")
    yield unmount is not None
    if unmount is not None:
        unmount()


@pytest.fixture
def chaos(run_script: RunScript, tmp_path: Path, home: Path, small_disk: bool) -> Chaos:
    application, module = tmp_path / "application.py", tmp_path / "random_app.py"
    application.write_text("import random_app\n\nif __name__ == '__main__':\n    random_app.main()\n")
    shutil.copyfile(CHECKOUT / "tests" / "random_app.py", module)
    dice = random.Random(SEED)
    own = {name: chance for name, chance in randomfaults.IN_APPS.items() if name in FAULTS}
    environment = {
        "LEDGERS": str(tmp_path),
        "WORKERS": str(WORKERS),
        "FAULTS": ",".join(f"{name}={chance}" for name, chance in own.items()),
        # Mostly with a template, although the app is small.
        "AUTOCRON_PRELOAD": os.environ.get("AUTOCRON_PRELOAD") or dice.choice(("on", "on", "on", "off")),
    }
    names = ["random.db"] * APPS
    if randomfaults.LINK in FAULTS:
        (home / "linked.db").symlink_to("random.db")
        names[0] = "linked.db"

    def start(number: int) -> Script:
        name = names[number % APPS]
        return run_script(application, RATE, f"{SEED}-{number}", name, env=environment, wait=False)

    with closing(SqliteStore(home / "random.db")) as store:
        store.set_setting("result_ttl", "1000000")  # seconds: what was deleted could not be checked
    faults = StoreFaults(home / "random.db", dice, small_disk=small_disk)
    return Chaos(start, module, faults, FAULTS, dice)


@pytest.mark.once
@pytest.mark.timeout(1.2 * float(GIVEN or IN_MATRIX) + 150)
@pytest.mark.parametrize("seconds", DURATIONS)
def test_random_faults(seconds: float, tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> None:
    print(f"AUTOCRON_RANDOM_SEED={SEED} AUTOCRON_RANDOM_FAULTS={','.join(sorted(FAULTS))}")
    ledgers = Ledgers(tmp_path, home / "random.db")
    chaos: Chaos = request.getfixturevalue("chaos")
    chaos.run(seconds, PAUSE)
    chaos.end_calls()
    store = SqliteStore(home / "random.db")
    try:
        wait_for_the_end(chaos, store, home, seconds)
        found = ledgers.violations(store, Disturbance(WORKERS, chaos.ended, chaos.disturbed))
    finally:
        store.close()
        print("\n".join(chaos.log))
    accepted, refused = len(ledgers.accepted()), ledgers.lines("refusals")
    print(f"{accepted} calls accepted, {len(refused)} refused, {chaos.ended} processes ended")
    assert not found, "\n".join(found[:50])
    full_disk = any(line.split()[1] == "fill:" for line in chaos.log)
    odd = [words for words in refused if words[0] != "StoreError" or not (full_disk or words[2] == "True")]
    assert not odd, odd[:10]
    assert accepted > seconds  # of some 24 a second on a quiet machine: there was a load
    assert is_flat(chaos.samples) or seconds < LONG, chaos.samples
    left = {file.name for file in home.iterdir()} - {"linked.db"}
    assert left <= {"random.db", "random.db-wal", "random.db-shm", "random.db.lock"}, left  # I7


def wait_for_the_end(chaos: Chaos, store: SqliteStore, home: Path, seconds: float) -> None:
    """Of all jobs, then of the app processes and the pool."""

    def unfinished() -> list[str]:
        rows = [*store.jobs(state="waiting"), *store.jobs(state="running")]
        return [f"{job.task} {job.state} {job.attempt} {job.reason}" for job in rows if job.kind != "cron"]

    # Beside other work the pool may not have kept up with the calls, and has minutes of them before it.
    try:
        wait_until(lambda: not unfinished(), 90 + seconds / 10, "the end of all jobs")
    except pytest.fail.Exception:
        for script in chaos.apps:
            print(script.stderr[-2000:])
        pytest.fail(f"jobs do not end: {unfinished()[:10]} of {len(unfinished())}")
    wal = home / "random.db-wal"
    wait_until(lambda: wal.stat().st_size <= LARGE_WAL, 15, "a WAL of the usual size")
    for script in chaos.apps:
        script.process.terminate()
    for script in chaos.apps:
        script.wait()
    wait_until(lambda: not pool_processes(), 20, "the end of the pool")


def is_flat(samples: list[tuple[int, int]]) -> bool:
    """Whether memory and descriptors were not more in the last third than in the first, but for a little."""
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    if not first:
        return True
    (memory, descriptors), (memory_after, descriptors_after) = (
        tuple(map(max, zip(*part, strict=True))) for part in (first, last)
    )
    print(f"at most {memory} MiB and {descriptors} descriptors, later {memory_after} and {descriptors_after}")
    return memory_after <= memory * 1.25 + 10 and descriptors_after <= descriptors + 15
