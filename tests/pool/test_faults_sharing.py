"""How a real pool uses its database file beside others, readers and callers. By fault number."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autocron_web.jobs import Job, new_id
from autocron_web.store.sqlite_file import LARGE_WAL
from conftest import CHECKOUT, wait_until
from pool_app import App, app, look, wait_for_pool  # noqa: F401

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]  # seconds, of which a busy machine may need many


CARRY = """
@autocron.delay
def carry(ballast):
    pass


def carry_much(word):
    for _ in range(15):
        carry("x" * 400_000)
"""


def test_70_a_wal_that_a_reader_has_let_grow_is_cut_off_when_he_ends(app: App, home: Path) -> None:
    app.add(CARRY)
    app.run()
    wait_for_pool()
    wal = home / "faults.db-wal"
    with closing(sqlite3.connect(home / "faults.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM autocron_job").fetchall()
        app.run("carry_much:")
        app.wait_for_counts(done=15)
        grown = wal.stat().st_size
        assert grown > LARGE_WAL
        wait_until(lambda: look(app)["status"] == "pass", 10, "a large WAL is no failure")
        assert look(app)["pool"]["store"]["wal_bytes"] >= grown
        reader.execute("COMMIT")
        wait_until(lambda: wal.stat().st_size == 0, 15, "the WAL is cut off")
    app.run("tell:a")
    app.wait_for("tell a")


HOOK = """
import os, sys

_log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _note(event, arguments):
    if event == "open" and "faults.db" in str(arguments[0]):
        os.write(_log, f"{os.path.basename(arguments[0])} {int(bool(arguments[2] & os.O_EXCL))}\\n".encode())


sys.addaudithook(_note)
"""

LOOK = """
def look(word):
    from autocron_web.web import status

    status.document(autocron.engine.engine, "detail")
    autocron.get_results()
    status.document(os.path.join(os.environ["AUTOCRON_HOME"], "faults.db"), "detail")
"""


def test_67_nothing_but_sqlite_opens_the_files_of_the_database(app: App, home: Path, tmp_path: Path) -> None:
    """App, pool, status and command: closing such a file would drop the locks that SQLite has on it."""
    opened = tmp_path / "opened"
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    paths = f"{tmp_path / 'hook'}:{os.environ.get('PYTHONPATH', CHECKOUT)}"
    environment = {"PYTHONPATH": paths, "OPENED": str(opened)}
    app.add(LOOK)
    app.run("tell:a", "look:", "tell:b", env=environment)
    app.wait_for("tell b")
    for option in ("--info", "--results", "status"):
        command = [sys.executable, "-m", "autocron_web", str(home / "faults.db"), option]
        subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=30)
    lines = [line.split() for line in opened.read_text().splitlines()]
    files = [line for line in lines if line[0] in ("faults.db", "faults.db-wal", "faults.db-shm")]
    assert files, "the hook sees what is opened"
    assert {name for name, _ in lines} - {"faults.db"} == {"faults.db.lock"}, "also in the monitor"
    assert files == [["faults.db", "1"]] * len(files), "only to make one where there is none"


STORM = """
def storm(word):
    \"\"\"Sixty-four processes make ten calls each, from the same moment on.\"\"\"
    gate, opener = os.pipe()
    for number in range(64):
        if os.fork() == 0:
            os.close(opener)
            os.read(gate, 1)
            for call in range(10):
                try_to(f"{number}-{call}")
            os._exit(0)
    os.close(opener)
    for _ in range(64):
        os.wait()
"""


def test_71_sixty_four_processes_call_at_once(app: App) -> None:
    app.add(STORM)
    app.file.write_text(app.file.read_text().replace("workers=2", "workers=8"))
    script = app.start("storm:")
    script.wait_for("called", timeout=50)
    tried = app.lines("tried")
    assert {line[1] for line in tried} == {"stored"}
    told = app.wait_for("tell", count=640, timeout=40)
    assert len({word for _, word, _ in told}) == len(told) == len(tried) == 640
    app.wait_for_counts(done=640)
    assert {job.attempt for job in app.store.jobs(limit=1000)} == {1}
    slowest = sorted(int(line[2]) for line in tried)
    print(f"milliseconds a call: median {slowest[320]}, p99 {slowest[633]}, slowest {slowest[-1]}")


def test_99_more_old_jobs_than_one_commit_deletes_are_deleted_at_once(app: App) -> None:
    old = Job(id="", task="task", due=0, created=0, state="done", expires=1)
    app.store.enqueue([old._replace(id=new_id()) for _ in range(4500)])
    app.run()
    app.wait_for_counts()
