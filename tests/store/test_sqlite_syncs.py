"""When SQLite waits for the disk: once for what must outlast a loss of power, not for what need not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

TURNS = 20

SCRIPT = f"""
import sys

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore

store = SqliteStore(sys.argv[1], durability=sys.argv[2])
epoch = store.take_epoch("local")
for turn in range({TURNS}):
    store.enqueue([Job(str(turn), "task", 0, 0)])
    with store.batch(durable=sys.argv[3] == "durable"):
        (job,) = store.claim("local", epoch, 1, 1)
print(store.counts())
"""


def syncs(folder: Path, durability: str, claims: str) -> int:
    """How often a process that stores and claims jobs in turn has waited for the disk."""
    trace = folder / "trace"
    command = [need("strace"), "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace), sys.executable]
    done = subprocess.run(
        [*command, "-c", SCRIPT, str(folder / f"{durability}-{claims}.db"), durability, claims],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{{'running': {TURNS}}}\n"
    return sum("sync(" in line for line in trace.read_text().splitlines())


@pytest.mark.once
def test_a_claim_is_synced_with_the_next_commit_that_must_be_durable(tmp_path: Path) -> None:
    every_commit, enqueues_only = syncs(tmp_path, "full", "durable"), syncs(tmp_path, "full", "lazy")
    assert every_commit - enqueues_only == TURNS
    assert enqueues_only >= TURNS
    assert syncs(tmp_path, "normal", "lazy") < TURNS
