"""The command line on real databases and pools: what it shows, sets and ends, and what it refuses."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autocron_web.jobs import Job, State, new_id, now
from conftest import CHECKOUT, need, wait_until
from pool_app import App, app, pids, wait_for_pool  # noqa: F401 - `app` is a fixture

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

DATABASE = "faults.db"  # of the app
ESCAPES = "\x1b]0;title\x07\x9b31m\u202eevil\u2066\r\n\x00\ud800[red]bold[/red]"


def run(
    *arguments: object, code: int = 0, columns: int = 80, answer: str = "", env: dict[str, str] | None = None
) -> str:
    """Run the command, and fail unless it ends with this exit code; what it wrote to both of its outputs."""
    process = subprocess.run(
        [sys.executable, "-m", "autocron_web", *map(str, arguments)],
        cwd=CHECKOUT, capture_output=True, input=answer, text=True, timeout=50,
        env={**os.environ, "COLUMNS": str(columns), **(env or {})},
    )  # fmt: skip
    written = process.stdout + process.stderr
    assert process.returncode == code, written
    assert "Traceback" not in written
    return written


def run_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code))


def only_job(app: App) -> Job:
    (job,) = app.jobs()
    return job


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autocron", "autocron-web"])
def test_the_console_scripts(name: str, app: App) -> None:
    app.store.open()
    written = subprocess.run(
        [need(name), DATABASE, "--info"], capture_output=True, text=True, check=True
    ).stdout
    assert app.store.name in written


def test_without_a_word_it_says_how_it_is_used() -> None:
    assert "DATABASE [OPTIONS] [COMMAND]" in run()


# -- what is wrong is told in a sentence -----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    ["--info", "--tasks", "-r", "top --once", "next", "status", "retry x", "cancel x", "stop",
     "--set-max-workers 2", "--delete-database --yes"],
)  # fmt: skip
def test_a_database_that_does_not_exist_is_not_made(arguments: str, home: Path) -> None:
    assert "There is no database" in run("none.db", *arguments.split(), code=2)
    assert list(home.iterdir()) == []


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "does not exist" in run("a.db", "--info", code=2, env={"AUTOCRON_HOME": str(missing)})
    assert not missing.exists()


def test_what_is_no_database(home: Path) -> None:
    (home / "text.db").write_text("no database at all, but rather long" * 100)
    assert "not a SQLite database" in run("text.db", "--info", code=2)
    assert "file name" in run("folder/", "--info", code=2)
    assert "SQLite" in run("postgresql://host/name", "--info", code=2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--info"], "Name the database first"),
        ([DATABASE, "--set-max-workers", "0"], "0 is not in the range"),
        ([DATABASE, "--set-max-workers", "many"], "'many' is not a valid integer"),
        ([DATABASE, "--set-result-ttl", "-1"], "-1 is not in the range"),
        ([DATABASE, "--set-autocron-lock", "maybe"], "'maybe' is not one of"),
        ([DATABASE, "dance"], "No such command 'dance'"),
        ([DATABASE, "retry"], "Missing argument 'ID'"),
        ([DATABASE, "retry", "nothing"], "there is no job 'nothing'"),
        ([DATABASE, "cancel", "nothing"], "there is no job 'nothing'"),
    ],
)
def test_wrong_arguments(app: App, arguments: list[str], sentence: str) -> None:
    app.store.open()
    assert sentence in run(*arguments, code=2)


# -- what is shown ---------------------------------------------------------------------------------


def test_the_options_of_the_original_show_the_database(app: App) -> None:
    app.store.enqueue([Job(id=new_id(), task="shop.send", due=now(), created=now())])
    failed = Job(
        id=new_id(),
        task="shop.fail",
        due=0,
        created=0,
        state="error",
        finished=now(),
        error="a\nValueError: b",
    )
    app.store.enqueue([failed])
    assert re.search(r"max_workers +as start\(\) says \(2\)", run(DATABASE, "-i"))
    assert "shop.send" in run(DATABASE, "-t")
    assert "shop.fail" not in run(DATABASE, "--tasks")
    assert "ValueError: b" in run(DATABASE, "-r")
    assert run_json(DATABASE, "--info")["jobs"] == {"waiting": 1, "error": 1}
    (shown,) = run_json(DATABASE, "--results")
    assert (shown["id"], shown["error"]) == (failed.id, failed.error)
    assert "shop.send" in run("--tasks", DATABASE), "the options may come first"


def test_top_next_and_status_of_a_pool_at_work(app: App) -> None:
    app.add("@autocron.cron('0 2 * * *', tz='Europe/Berlin')\ndef nightly():\n    pass")
    app.run("hold:a")
    app.wait_for("begin")
    wait_until(lambda: run_json(DATABASE, "top")["pool"]["crons"], 15, "the cron")
    shown = run(DATABASE, "top", "--once")
    (job,) = [job for job in app.jobs() if job.state == "running"]
    assert re.search(r"\d+ +running +\d+ s +application\.hold", shown)
    assert job.id in shown
    assert "at 02:00 every day (Europe/Berlin)" in shown
    assert "application.nightly" in run(DATABASE, "next")
    (cron,) = run_json(DATABASE, "next")
    assert cron["in_words"] == "at 02:00 every day (Europe/Berlin)"
    wait_until(lambda: run_json_status(app) == "pass", 15, "pass")
    assert run(DATABASE, "status").startswith("pass")


ON = {"AUTOCRON_PRELOAD": "on"}


@pytest.mark.skipif(sys.platform != "linux", reason="a template needs Linux")
def test_top_shows_the_process_that_forks_the_workers(app: App) -> None:
    app.run("hold:a", "hold:b", env=ON)
    app.wait_for("begin", count=2, timeout=30)
    monitor = run_json(DATABASE, "top")["pool"]["monitor"]
    assert ({monitor["template"]}, monitor["no_template"]) == (pids("template"), None)
    shown = run(DATABASE, "top", "--once")
    assert re.search(rf"{monitor['template']} +template .* forks the workers", shown), shown


@pytest.mark.matrix  # tests/pool/test_template.py has each of the reasons
@pytest.mark.skipif(sys.platform != "linux", reason="a template needs Linux")
def test_the_status_says_why_no_process_forks_the_workers(app: App) -> None:
    app.add("import random; kept = random.Random()")
    app.run("hold:a", "hold:b", env=ON)
    app.wait_for("begin", count=2, timeout=30)
    monitor = run_json(DATABASE, "top")["pool"]["monitor"]
    assert monitor["template"] is None
    assert "made a random.Random" in monitor["no_template"]


def run_json_status(app: App) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "autocron_web", DATABASE, "status", "--json"],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    status: str = json.loads(process.stdout)["status"]
    assert process.returncode == {"pass": 0, "warn": 1, "fail": 2}[status]
    return status


def test_the_status_without_a_pool_is_a_failure(app: App) -> None:
    app.store.open()
    assert "no_monitor" in run(DATABASE, "status", code=2)
    assert "No pool runs" in run(DATABASE, "next")


# -- nothing drives a terminal, and everything fits it ---------------------------------------------


def test_nothing_that_is_shown_drives_a_terminal(app: App) -> None:
    name = "shop." + ESCAPES.replace("\x00", "").replace("\ud800", "")
    ends: list[tuple[State, int | None]] = [
        ("waiting", None), ("done", now()), ("error", now()), ("cancelled", now())
    ]  # fmt: skip
    jobs = [
        Job(id=new_id(), task=name, due=now(), created=now(), state=state, finished=finished, error=name,
            reason="unknown task" if state == "waiting" else name, result=name.encode())
        for state, finished in ends
    ]  # fmt: skip
    app.store.enqueue(jobs)
    app.store.see_cron(name, ESCAPES.replace("\x00", "").replace("\ud800", ""), "UTC\x1b[2J", now())
    commands: list[tuple[list[str], int]] = [
        (["-i", "-t", "-r"], 0), (["-t", "-r", "--json"], 0), (["top", "--once"], 0), (["next"], 0),
        (["status"], 2), (["status", "--json"], 2), (["retry", ESCAPES[:12]], 2), (["cancel", jobs[0].id], 0),
        (["retry", jobs[2].id], 0),
    ]  # fmt: skip
    for arguments, code in commands:
        written = run(DATABASE, *arguments, code=code)
        assert [char for char in written if not (char.isprintable() or char == "\n")] == [], arguments
    assert "[red]bold" in run(DATABASE, "-t"), "and nothing is markup"


@pytest.mark.parametrize("columns", [80, 200])
def test_tables_fit_the_terminal(app: App, columns: int) -> None:
    long = "package." * 40 + "task"
    jobs = [Job(id=new_id(), task=long, due=now(), created=now(), reason="unknown task")]
    jobs += [
        Job(id=new_id(), task="日本" * 60, due=0, created=0, state="error", finished=now(), error="e" * 500)
    ]
    app.store.enqueue(jobs)
    app.store.see_cron(long, "0 2 * * *", "Europe/Berlin", now())
    for arguments in (["-i", "-t", "-r"], ["top", "--once"], ["next"]):
        written = run(DATABASE, *arguments, columns=columns)
        assert max(map(_width, written.splitlines())) <= columns, arguments
    if columns == 200:
        assert jobs[0].id in written or jobs[0].id in run(DATABASE, "-t")


def _width(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of 80 columns and 24 lines: both of its ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield ours, theirs
    os.close(ours)


def test_top_in_a_terminal_is_live_and_ends_with_ctrl_c(app: App, terminal: tuple[int, int]) -> None:
    app.run("hold:first")
    app.wait_for("begin")
    ours, theirs = terminal
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "autocron_web", DATABASE, "top"], cwd=CHECKOUT, start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    written = b""

    def shows(text: str) -> bool:
        nonlocal written
        os.set_blocking(ours, False)
        try:
            written += os.read(ours, 65536)
        except BlockingIOError:
            pass
        return text.encode() in written

    try:
        wait_until(lambda: shows("application.hold"), 20, "the running job")
        written = b""
        (job,) = app.jobs()
        app.release("first")
        wait_until(lambda: shows("1 done"), 20, f"the end of {job.id}")
        process.send_signal(2)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


# -- settings --------------------------------------------------------------------------------------


def test_the_number_of_workers_of_a_running_pool(app: App) -> None:
    app.run("tell:a")
    wait_for_pool(workers=2)
    assert "keeps to it (4 workers)" in run(DATABASE, "--set-max-workers", 4)
    wait_for_pool(workers=4)
    run(DATABASE, "--set-max-workers", 1)
    wait_for_pool(workers=1)
    run(DATABASE, "--set-defaults")
    wait_for_pool(workers=2)


def test_a_worker_that_runs_a_job_is_the_last_to_go(app: App) -> None:
    app.run("hold:a", "hold:b")
    (_, free, first), (_, busy, second) = sorted(
        app.wait_for("begin", count=2), key=lambda line: int(line[2])
    )
    app.release(free)
    app.wait_for(f"end {free}")
    wait_until(lambda: app.store.counts() == {"running": 1, "done": 1}, 15, "the end of one")
    run(DATABASE, "--set-max-workers", 1)
    wait_for_pool(workers=1)
    assert pids("worker") == {int(second)} != {int(first)}, "the older one had nothing to do"
    app.release(busy)
    app.wait_for_states("done", "done")


def test_the_number_of_workers_of_the_next_pool(app: App) -> None:
    app.store.open()
    assert "from the next start on" in run(DATABASE, "--set-max-workers", 3)
    app.run("tell:a")
    wait_for_pool(workers=3)


def test_how_long_results_are_kept(app: App) -> None:
    app.run("tell:a")
    (job,) = app.wait_for_states("done")
    assert job.expires is not None
    assert job.finished is not None
    assert job.expires - job.finished == 1800 * 1_000_000
    run(DATABASE, "--set-result-ttl", 60)
    app.run("tell:b")
    job = app.wait_for_states("done", "done")[1]
    assert job.expires is not None
    assert job.finished is not None
    assert job.expires - job.finished == 60 * 1_000_000


@pytest.mark.parametrize(("on", "off"), [("on", "off"), ("TRUE", "False")])
def test_the_lock(app: App, on: str, off: str) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    wait_for_pool()
    assert "the pool has ended" in run(DATABASE, "--set-autocron-lock", on)
    wait_for_pool(monitors=0, workers=0)
    before = app.store.counts()
    script = app.run("tell:b")  # at once, in the caller
    assert app.lines("tell b")[0][2] == str(script.pid)
    assert app.store.counts() == before
    assert pids("monitor") == set()
    assert run_json_status(app) == "warn"
    run(DATABASE, "--set-autocron-lock", off)
    script = app.run("tell:c")
    assert app.wait_for("tell c")[0][2] != str(script.pid)


def test_what_is_no_longer_needed_is_accepted(app: App) -> None:
    app.store.open()
    written = run(
        DATABASE, "--set-monitor-lock", "on", "--set-blocking-mode", "off", "--set-worker-idle-time", 3,
        "--set-monitor-idle-time", 5,
    )  # fmt: skip
    assert written.count("no longer needed") == 4
    assert app.store.settings() == {}


def test_settings_that_nobody_can_have_set_are_none(app: App) -> None:
    for key, value in (("max_workers", "1e9"), ("result_ttl", "-5"), ("autocron_lock", "perhaps")):
        app.store.set_setting(key, value)
    app.run("tell:a")
    app.wait_for("tell a")
    wait_for_pool(workers=2)


def test_deleting_the_database(app: App, home: Path) -> None:
    script = app.run("tell:a")
    app.wait_for_states("done")
    assert "a pool runs" in run(DATABASE, "--delete-database", "--yes", code=2)
    run(DATABASE, "stop")
    app.store.close()
    assert "Aborted" in run(DATABASE, "--delete-database", code=1, answer="n\n")
    assert (home / DATABASE).exists()
    assert "is deleted" in run(DATABASE, "--delete-database", answer="y\n")
    assert [file.name for file in home.iterdir()] == [f"{DATABASE}.lock"]
    script.kill()


def test_a_database_with_tables_of_the_application_is_not_deleted(app: App) -> None:
    with closing(sqlite3.connect(app.store.name)) as connection:
        connection.execute("CREATE TABLE customer (name)")
    app.store.open()
    assert "tables of something else (customer)" in run(DATABASE, "--delete-database", "--yes", code=2)
    assert os.path.exists(app.store.name)


# -- jobs, and the end of the pool -----------------------------------------------------------------


def test_a_job_begins_anew(app: App) -> None:
    app.run("vanish:a")
    (job,) = app.wait_for_states("error", timeout=30)
    assert job.crashes == 3
    assert "waits again" in run(DATABASE, "retry", job.id)
    app.wait_for("begin a", count=6, timeout=30)
    app.wait_for_states("error", timeout=30)
    assert only_job(app).attempt == 3
    assert run_json(DATABASE, "retry", job.id) == {"id": job.id, "task": job.task, "state": "waiting"}
    app.wait_for("begin a", count=9, timeout=30)


def test_a_job_that_has_not_failed_does_not_begin_anew(app: App) -> None:
    app.run("tell:a")
    (job,) = app.wait_for_states("done")
    assert "is done" in run(DATABASE, "retry", job.id, code=2)


def test_a_running_and_a_waiting_job_are_cancelled(app: App) -> None:
    app.run("hold:a")
    app.wait_for("begin")
    run(DATABASE, "--set-max-workers", 1)
    wait_for_pool(workers=1)
    app.run("tell:b")
    held, waiting = app.jobs()[::-1]
    assert run_json(DATABASE, "cancel", waiting.id)["state"] == "cancelled"
    assert "is cancelled" in run(DATABASE, "cancel", held.id)
    app.wait_for_states("cancelled", "cancelled")
    assert app.lines("end") == []
    app.run("tell:c")
    job = app.wait_for_states("cancelled", "cancelled", "done")[2]
    assert "ended already: it is done" in run(DATABASE, "cancel", job.id, code=2)


def test_the_pool_ends_for_all_until_the_next_start(app: App) -> None:
    script = app.run("tell:a")
    other = app.run("tell:b")
    app.wait_for_states("done", "done")
    assert "the pool has ended" in run(DATABASE, "stop")
    assert pids("monitor") == pids("worker") == set()
    time.sleep(2)  # in which an app process would start another one
    assert pids("monitor") == set()
    assert script.process.poll() is None
    assert other.process.poll() is None
    assert "no pool runs" in run(DATABASE, "stop")
    app.run("tell:c")
    app.wait_for_states("done", "done", "done")


def test_a_pool_ends_although_somebody_holds_its_store(app: App) -> None:
    app.run("tell:a")
    app.wait_for_states("done")
    with app.locked():
        assert "the pool has ended" in run(DATABASE, "stop")
        assert pids("monitor") == set()


# -- in a framework's command line -----------------------------------------------------------------


def test_the_commands_in_the_command_line_of_a_framework(app: App) -> None:
    import click
    from click.testing import CliRunner

    from autocron_web.cli import commands

    app.store.open()
    asked = []

    def database() -> str:
        asked.append(1)
        return DATABASE

    @click.group()
    @click.pass_context
    def flask(context: click.Context) -> None:
        context.obj = "what the framework keeps there"

    flask.add_command(commands(database))
    runner = CliRunner()
    assert "top" in runner.invoke(flask, ["autocron", "--help"]).output
    assert asked == []
    result = runner.invoke(flask, ["autocron", "--info"])
    assert app.store.name.rpartition("/")[2] in result.output
    result = runner.invoke(flask, ["autocron", "status"])
    assert (result.exit_code, "no_monitor" in result.output) == (2, True)
    result = runner.invoke(flask, ["autocron", "retry", "x"])
    assert (result.exit_code, "there is no job 'x'" in result.output) == (2, True)
