"""Who joins, leaves and takes over: what stays, what is replaced, and what ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from conftest import pool_processes, wait_until
from pool_app import APPLICATION, App, alive, app, pids, seconds_until, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

NEW_CODE = APPLICATION.replace('note("tell", word', 'note("new", word')
assert NEW_CODE != APPLICATION


def test_a_process_with_the_same_code_keeps_the_workers(app: App) -> None:
    first = app.run("tell:a")
    app.wait_for("tell a")
    before = wait_for_pool()
    app.run("tell:b")
    app.wait_for("tell b")
    assert wait_for_pool() == before
    first.kill()
    app.run("tell:c")
    app.wait_for("tell c")
    assert wait_for_pool() == before


def test_newer_code_replaces_each_worker_after_its_job(app: App) -> None:
    monitor, workers = app.run_idle()  # all of them have loaded the older code
    app.run("hold:a")
    app.wait_for("begin a")
    app.file.write_text(NEW_CODE)
    app.run("tell:b")
    app.wait_for("new b")
    assert pids("monitor") == {monitor}
    app.release("a")
    *_, held, told = app.wait_for_states("done", "done", "done", "done")
    assert (held.attempt, told.attempt) == (1, 1)
    wait_until(lambda: not pids("worker") & workers, 10, "the end of the workers with the older code")
    wait_for_pool()


def test_newer_code_replaces_workers_that_have_imported_more_of_the_app_since(app: App) -> None:
    app.file.with_name("late.py").write_text("""
import os

import autocron_web as autocron

@autocron.delay
def later(word):
    with open(os.environ["LEDGER"], "a") as file:
        file.write(f"later {word}\\n")
""")
    app.add("def import_late(word):\n    import late\n\n    late.later(word)")
    _, workers = app.run_idle()  # all of them have loaded the older code
    app.run("import_late:a")
    app.wait_for("later a")
    app.file.write_text(app.file.read_text().replace('note("tell", word', 'note("new", word'))
    app.run("tell:b", "tell:c", "tell:d", "tell:e")
    app.wait_for("new", count=4)
    wait_until(lambda: not pids("worker") & workers, 10, "the end of the workers with the older code")


def test_a_fork_of_an_older_process_has_the_older_code(app: App) -> None:
    """A preloading server whose files were touched goes on with what it has loaded."""
    app.file.write_text(
        APPLICATION.replace(
            'print("called", flush=True)',
            """
    if os.fork() == 0:
        while not os.path.exists(f"{LEDGER}.touched"):
            time.sleep(0.01)
        tell("child")
        while not os.path.exists(f"{LEDGER}.over"):
            time.sleep(0.01)
        os._exit(0)
    print("called", flush=True)
            """,
        )
    )
    app.run("tell:a")
    app.wait_for("tell a")
    before = wait_for_pool()
    app.file.touch()
    app.release("touched")
    app.wait_for("tell child")
    assert wait_for_pool() == before
    app.release("over")


def test_the_pool_makes_room_for_another_interpreter(app: App, tmp_path: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    (monitor,), _ = wait_for_pool()
    other = tmp_path / "deploy" / "bin" / "python"
    other.parent.mkdir(parents=True)
    other.symlink_to(os.path.realpath(sys.executable))
    for name in ("pyvenv.cfg", "lib"):
        (tmp_path / "deploy" / name).symlink_to(Path(sys.prefix, name))
    app.run("tell:b", env={"AUTOCRON_PYTHON": str(other)})
    app.wait_for("tell b")
    wait_until(lambda: not alive(monitor), 10, "the end of the monitor that gives way")
    wait_for_pool()
    assert all(str(other) in command for command in pool_processes().values())


def test_another_path_to_the_same_interpreter_makes_no_difference(app: App, tmp_path: Path) -> None:
    """A deploy often leads through a link, and a server that executes itself anew does not always."""
    app.run("tell:a")
    app.wait_for("tell a")
    monitors = pids("monitor")
    (tmp_path / "current").symlink_to(sys.prefix)
    app.run("tell:b", env={"AUTOCRON_PYTHON": str(tmp_path / "current" / "bin" / Path(sys.executable).name)})
    app.wait_for("tell b")
    assert pids("monitor") == monitors


def test_95_a_monitor_whose_lock_file_was_deleted_leaves_to_the_later_one(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    (monitor,), _ = wait_for_pool()
    (home / "faults.db.lock").unlink()
    (home / "faults.db.sock").unlink()
    app.run("tell:b")
    app.wait_for("tell b")
    wait_until(lambda: not alive(monitor), 10, "the end of the older monitor")
    app.run("tell:c")
    app.wait_for("tell c")
    wait_for_pool()
    assert sorted(line[1] for line in app.lines("tell")) == ["a", "b", "c"]


def test_a_monitor_that_is_told_to_end_drains_and_another_one_follows(app: App) -> None:
    app.run("hold:a")
    app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGTERM)
    app.release("a")
    wait_until(lambda: not alive(monitor), 5, "the end of the monitor")
    (job,) = app.jobs()
    assert (job.state, job.attempt) == ("done", 1)
    took = seconds_until(lambda: pids("monitor"), 15, "another monitor, as an app process lives")
    assert took > 3
    wait_for_pool()


def test_18_a_second_signal_ends_the_drain_at_once(app: App) -> None:
    app.run("hold:a")
    app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    for _ in range(2):
        os.kill(monitor, signal.SIGTERM)
        wait_until(lambda: not pending(monitor, signal.SIGTERM), 5, "the signal's arrival")
    seconds_until(lambda: not pool_processes(), 5, "the end of the pool")
    (job,) = app.jobs()
    assert (job.state, job.crashes) == ("waiting", 0)
    app.release("a")
    (job,) = app.wait_for_states("done")
    assert (job.attempt, job.crashes) == (2, 0)


def pending(pid: int, number: int) -> bool:
    """Whether a signal has been sent to the process and has not reached it (proc(5), ShdPnd)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(mask >> (number - 1) & 1)


def test_63_a_deleted_database_is_a_loud_error_and_ends_the_pool(app: App, home: Path) -> None:
    script = app.run("tell:a")
    app.wait_for("tell a")
    wait_for_pool()
    for file in home.glob("faults.db*"):
        if file.suffix != ".sock":
            file.unlink()
    wait_until(lambda: not pool_processes(), 15, "the end of the pool")
    assert "faults.db" in script.stderr


def test_waiting_for_a_job_that_was_deleted_ends(app: App) -> None:
    app.file.write_text(
        APPLICATION.replace(
            'print("called", flush=True)',
            """
    gone = tell.options(result_ttl=0).enqueue("a")
    while os.path.getsize(LEDGER) == 0:
        time.sleep(0.01)
    from autocron_web.jobs import now
    while gone._client.get(gone.id) is not None:
        autocron.engine.engine.client._store.purge(now())
    try:
        gone.get(timeout=10)
    except autocron.ResultGone as error:
        note("gone", "result_ttl" in str(error))
    print("called", flush=True)
            """,
        )
    )
    app.run()
    assert app.lines("gone") == [["gone", "True"]]


@pytest.mark.once
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
@pytest.mark.parametrize("where", ["module", "task", "template"])
def test_a_worker_that_has_changed_its_user_dies_with_the_monitor_all_the_same(app: App, where: str) -> None:
    """The kernel forgets then that it is to do so. No app process is left, so no other monitor ends it."""
    change = "os.seteuid(65534)\n    os.seteuid(0)"
    if where == "task":
        app.add(f"@autocron.delay\ndef change(word):\n    {change}\n    note('changed', os.getpid())")
    else:
        app.add(f"if autocron.in_worker():\n    {change}")
    app.file.write_text(app.file.read_text().replace("workers=2", f"workers={1 + (where == 'template')}"))
    env = {"AUTOCRON_PRELOAD": "on" if where == "template" else "off"}
    script = app.run(*(["change:x"] if where == "task" else []), "hold:a", env=env)
    app.wait_for("begin")
    (monitor,), workers = wait_for_pool(workers=1 + (where == "template"))
    left = workers | pids("template")
    script.kill()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, left)), 20, "the end of all workers")
