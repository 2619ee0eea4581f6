"""What a real app process meets on its way to its pool: no descriptors, no threads, a slow interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conftest import wait_until
from pool_app import App, app, wait_for_pool  # noqa: F401
from pool_way import Way, store, way  # noqa: F401

pytestmark = pytest.mark.once

FUNCTIONS = '''
import resource, threading


def exhaust(word):
    """Leave no descriptor, and kill the monitor."""
    global files
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    files = []
    try:
        while True:
            files.append(open(LEDGER))
    except OSError:
        pass
    os.kill(int(word), signal.SIGKILL)


def call_without(number):
    """Call while nothing is to be had; what has become of it is told when there is something again."""
    outcomes = []
    for index in range(int(number)):
        try:
            outcomes.append(tell(f"without{index}").id)
        except BaseException as error:
            outcomes.append(type(error).__name__)
        time.sleep(0.1)
    for file in files:
        file.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for outcome in outcomes:
        note("outcome", outcome)


def without_threads(word):
    def cannot(self):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = cannot
    autocron.leave()
    while any(thread.name == "autocron-link" for thread in threading.enumerate()):
        time.sleep(0.01)
    print("started again", autocron.start("faults.db", workers=2), flush=True)


def leave_and_count(word):
    """How many threads belong to links, and how many app processes the pool knows after `leave()`."""
    from autocron_web.launch import ask_monitor

    path = os.path.join(os.environ["AUTOCRON_HOME"], "faults.db")
    note("threads", [thread.name for thread in threading.enumerate()].count("autocron-link"))
    note("before", len(ask_monitor(path, 5)["apps"]))
    autocron.leave()
    deadline = time.monotonic() + 10
    while ask_monitor(path, 5)["apps"] and time.monotonic() < deadline:
        time.sleep(0.02)
    note("after", len(ask_monitor(path, 5)["apps"]))
'''


@pytest.fixture(autouse=True)
def functions(app: App) -> None:
    app.add(FUNCTIONS)


def start_with(app: App, code: str) -> None:
    """Let app processes start in this way."""
    text = app.file.read_text()
    line = '    print("started", autocron.start("faults.db", workers=2), flush=True)\n'
    assert line in text
    app.file.write_text(text.replace(line, code))


def test_a_call_without_descriptors_is_stored_once_and_runs_without_another_one(app: App) -> None:
    app.add("""
def lose(number):
    tell("before")
    deadline = time.monotonic() + 20
    while not any(line.startswith("tell before") for line in open(LEDGER)) and time.monotonic() < deadline:
        time.sleep(0.02)
    from autocron_web.engine import engine
    exhaust(engine._link._state.connection.monitor)
    call_without(number)
""")
    script = app.run("lose:5")
    outcomes = [line[1] for line in app.lines("outcome")]
    assert {job.id for job in app.jobs()} >= set(outcomes)
    assert len(set(outcomes)) == 5
    app.wait_for("tell without", count=5, timeout=60)  # nobody has called since
    app.wait_for_counts(done=6)
    assert sorted(line[1] for line in app.lines("tell without")) == [f"without{index}" for index in range(5)]
    assert "Traceback" not in script.stderr
    assert script.stderr.count("Too many open files") == 1


def test_an_app_that_can_have_no_thread_has_a_pool(app: App) -> None:
    script = app.run("tell:a", "without_threads:", "tell:b")
    app.wait_for("tell b")
    wait_for_pool()
    assert script.stderr.count("can't start new thread") == 1
    assert "Traceback" not in script.stderr


def test_a_start_in_eight_threads_is_one_and_leave_leaves(app: App) -> None:
    start_with(
        app,
        """
    import threading
    answers = []
    gate = threading.Barrier(8)

    def start():
        gate.wait()
        answers.append(autocron.start("faults.db", workers=2))

    starts = [threading.Thread(target=start) for _ in range(8)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    print("started", sorted(answers).count(True), len(answers), flush=True)
""",
    )
    script = app.run("tell:a", "leave_and_count:")
    assert "started 1 8" in script.stdout
    assert [app.lines(word)[0][1] for word in ("threads", "before", "after")] == ["1", "1", "0"]


def test_a_start_does_not_wait_for_an_interpreter_that_takes_its_time(app: App, tmp_path: Path) -> None:
    slow = tmp_path / "slow" / "python"
    slow.parent.mkdir()
    gate = tmp_path / "gate"
    slow.write_text(f'#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.05; done\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    script = app.run("tell:a", env={"AUTOCRON_PYTHON": str(slow)})
    assert "started False" in script.stdout
    gate.touch()
    app.wait_for("tell a", timeout=60)

    def zombies() -> list[str]:
        children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
        children += [
            child
            for task in Path(f"/proc/{script.pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return children

    wait_until(lambda: not zombies(), 20, "that nothing is left of what has launched the monitor")


def test_what_is_said_of_the_first_hello_is_seen(app: App) -> None:
    script = app.run("hold:a")
    app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    os.kill(script.pid, 9)
    os.kill(monitor, 9)
    app.release("a")
    script = app.run()
    wait_until(
        lambda: "1 jobs of an earlier pool were interrupted" in script.stderr,
        15,
        f"the line: {script.stderr}",
    )
    app.wait_for_states("done")


@pytest.mark.parametrize("paths", ["['']", "['', 'relative', __import__('pathlib').Path('x'), b'y', None]"])
def test_a_current_folder_that_is_gone(app: App, tmp_path: Path, paths: str) -> None:
    folder = tmp_path / "deleted"
    start_with(
        app,
        f"""
    os.mkdir({str(folder)!r})
    os.chdir({str(folder)!r})
    os.rmdir({str(folder)!r})
    sys.path[:0] = {paths}
    print("started", autocron.start("faults.db", workers=2), flush=True)
""",
    )
    script = app.run("tell:a")
    assert "started True" in script.stdout
    app.wait_for("tell a")
    assert "Traceback" not in script.stderr


def test_a_finished_job_that_was_deleted_is_no_longer_waited_for(way: Way) -> None:
    way("""
        from autocron_web.jobs import now
        from autocron_web.store.sqlite import SqliteStore

        r = add.options(result_ttl=0).enqueue(1)
        unseen = add.options(result_ttl=0).enqueue(2)
        until(lambda: {each.status for each in autocron.get_results()} == {"done"})
        store = SqliteStore(os.path.join(os.environ["AUTOCRON_HOME"], "shop.db"))
        until(lambda: store.purge(now() + 1) == 0)
        store.close()
        while r.is_waiting:
            time.sleep(0.01)
        equal((r.status, r.is_ready(), r.has_error, r.result), ("gone", True, False, None))
        assert "deleted" in raised(autocron.ResultGone, r.get, 5)
        assert "deleted" in raised(autocron.ResultGone, unseen.get, 5)
        equal(unseen.cancel(), False)
        """)
