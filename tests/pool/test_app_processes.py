"""Processes of an app: who starts the pool, who ends it, forks, and wakes that are lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autocron_web.jobs import Job, new_id, now
from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, pool_processes, wait_until
from pool_app import alive, pids, wait_for_pool
from pool_way import SHOP, Way, store, way, with_tasks  # noqa: F401


def test_the_first_start_makes_the_pool_and_all_others_join_it(
    way: Way, run_script: RunScript, tmp_path: Path
) -> None:
    first = way(
        """
        if started:
            equal((start(), autocron.start("shop.db")), (False, False))
            print("up", flush=True)
            until(lambda: os.path.exists("enough"), 30)
        else:
            equal(add(1).get(10), 11)
            began = time.monotonic()
            equal(autocron.stop(20), True)
            assert time.monotonic() - began < 1.5  # it was not the last one: there is nothing to wait for
        """,
        wait=False,
    )
    first.wait_for("up")
    pool = wait_for_pool()
    run_script(tmp_path / "application.py")
    assert (pids("monitor"), pids("worker")) == pool
    (tmp_path / "enough").touch()
    first.succeed()
    assert pool_processes() == {}


def test_stop_returns_when_all_is_gone(way: Way, tmp_path: Path, home: Path) -> None:
    script = way("""
        child = subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True).stdout
        held = hold("a")
        until(lambda: noted("begin"))
        threading.Timer(0.3, release, "a").start()
        left = tell.options(hours=1).enqueue("left")
        equal(autocron.stop(20), True)
        pools = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"autocron_web/pool" in p.read_bytes()
                 and os.environ["AUTOCRON_HOME"].encode() in p.read_bytes()]
        equal(pools, [])
        equal((held.status, held.result, left.status), ("done", "a", "waiting"))  # it was drained
        equal(autocron.stop(20), True)  # again: nothing to do
        after = tell("after")
        equal(after.status, "waiting")  # stored, for whoever starts next
        raised(autocron.ResultTimeout, after.get, 0.1)
        equal(start(), True)
        equal(after.get(10) > 0, True)
        """)
    assert script.stderr == ""
    assert sorted(path.name for path in home.iterdir()) == [
        "shop.db",
        "shop.db-shm",
        "shop.db-wal",
        "shop.db.lock",
    ] or (sorted(path.name for path in home.iterdir()) == ["shop.db", "shop.db.lock"])


def test_jobs_that_were_left_waiting_run_after_the_next_start(way: Way, store: SqliteStore) -> None:
    way("""
        autocron.leave()
        for i in range(5):
            add(i)
        equal(len(autocron.get_results(state="waiting")), 5)
        """)
    assert {job.state for job in store.jobs()} == {"waiting"}
    way("""
        until(lambda: len(autocron.get_results(state="done")) == 5)
        equal(sorted(r.result for r in autocron.get_results()), [10, 11, 12, 13, 14])
        """)


@pytest.mark.once
def test_the_end_of_a_script_is_no_end_of_its_jobs(
    run_script: RunScript, way: Way, store: SqliteStore
) -> None:
    """A script that never calls stop: what it has stored is on disk, and its pool ends by itself."""
    run_script("from shop import *\nstart()\nfor i in range(3): add(i)\n")
    began = time.monotonic()
    wait_until(lambda: not pool_processes(), 20, "the end of the pool")
    assert time.monotonic() - began < 8
    assert len(store.jobs()) == 3
    way("until(lambda: len(autocron.get_results(state='done')) == 3)")


@pytest.mark.once
def test_the_job_of_an_unknown_task_waits_for_the_code_that_knows_it(
    way: Way, with_tasks: Callable[[str], None], tmp_path: Path
) -> None:
    renamed = """
        @autocron.delay{name}
        def {function}(word):
            note(word)
        """
    with_tasks(renamed.format(name="", function="report"))
    way("""
        r = report.options(seconds=0.2).enqueue("kept")
        autocron.stop(20)
        """)
    with_tasks(renamed.format(name="", function="summary"))
    way("""
        (r,) = autocron.get_results()
        until(lambda: r.reason == "unknown task")
        equal((r.status, r.attempt, r.is_waiting()), ("waiting", 0, True))
        summary("new").get(10)
        equal((r.status, r.attempt), ("waiting", 0))
        """)
    with_tasks(renamed.format(name="(name='more.report')", function="summary"))
    way("""
        (r,) = autocron.get_results(task="more.report")
        until(lambda: r.status == "done")
        equal((r.attempt, r.reason), (1, None))
        equal(noted(), ["new", "kept"])
        """)


@pytest.mark.once
def test_five_thousand_jobs_run_exactly_once(way: Way) -> None:
    way("""
        from collections import Counter

        words = [f"{i:04}" for i in range(5000)]
        results = tell.enqueue_many([(word,) for word in words[:4000]])

        def call(part):
            for word in part:
                tell(word)

        threads = [threading.Thread(target=call, args=(words[4000 + i::10],)) for i in range(10)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        until(lambda: len(noted()) >= 5000, 40)
        until(lambda: len(autocron.get_results(5001, state="done")) == 5000)
        equal(Counter(noted()), Counter(words))
        equal({r.attempt for r in autocron.get_results(5000)}, {1})
        """)


def test_an_app_that_forks_loses_nothing(way: Way) -> None:
    """Also without the warning of Python 3.12 about a fork of a process that has threads."""
    script = way(
        """
        equal(add(1).get(10), 11)
        children = []
        for number in range(4):
            pid = os.fork()
            if not pid:
                try:
                    results = [add(number, i) for i in range(20)]
                    equal([r.get(20) for r in results], [number + i for i in range(20)])
                    grandchild = os.fork()
                    if not grandchild:
                        equal(add(number).get(20), number + 10)
                        os._exit(0)
                    equal(os.waitpid(grandchild, 0)[1], 0)
                    os._exit(0)
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
            children.append(pid)
            equal(add(number, 100).get(20), number + 100)  # the parent goes on
        equal([os.waitpid(pid, 0)[1] for pid in children], [0] * 4)
        equal(len(autocron.get_results(1000)), 1 + 4 * 22)
        equal({r.status for r in autocron.get_results(1000)}, {"done"})
        """,
        env={"PYTHONWARNINGS": "error::DeprecationWarning"},
    )
    assert "Warning" not in script.stderr


@pytest.mark.once
def test_an_app_with_more_than_a_thousand_open_files(way: Way) -> None:
    way("""
        import resource

        autocron.stop(20)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 1200:
            sys.exit()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        files = [open(os.devnull) for _ in range(1100)]  # select(2) knows no descriptor above 1023
        equal(start(), True)
        equal([add(i).get(10) for i in range(5)], list(range(10, 15)))
        """)


def test_a_forked_child_that_exits_normally_takes_nothing_along(way: Way) -> None:
    way("""
        monitors = len(autocron.get_results())
        pid = os.fork()
        if not pid:
            sys.exit(0)  # with all that is registered for the exit
        equal(os.waitpid(pid, 0)[1], 0)
        equal(add(1).get(10), 11)
        """)


def test_after_a_fork_the_parent_still_notices_the_end_of_its_monitor(way: Way, tmp_path: Path) -> None:
    script = way(
        """
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        print("forked", flush=True)
        until(lambda: os.path.exists("enough"), 30)
        """,
        wait=False,
    )
    script.wait_for("forked")
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: pids("monitor") - {monitor}, 5, "another monitor")
    (Path(script.process.args[1]).parent / "enough").touch()  # type: ignore[index, arg-type]
    script.succeed()


@pytest.mark.once
def test_eight_processes_that_start_at_the_same_moment_share_one_pool(way: Way, tmp_path: Path) -> None:
    body = """
        print("started", started, flush=True)
        equal(add(1).get(20), 11)
        until(lambda: os.path.exists("enough"), 40)
        """
    wait = "print('at the gate', flush=True); until(lambda: os.path.exists('gate'), 30)"
    start = "def start(workers=2):"
    (tmp_path / "shop.py").write_text(SHOP.replace(start, f"{start}\n    {wait}"))
    scripts = [way(body, wait=False) for _ in range(8)]
    for script in scripts:
        script.wait_for("at the gate")
    (tmp_path / "gate").touch()
    for script in scripts:
        script.wait_for("started")
    answers = [script.stdout.split()[-1] for script in scripts]
    assert sorted(answers) == ["False"] * 7 + ["True"]
    wait_for_pool()
    (tmp_path / "enough").touch()
    for script in scripts:
        script.succeed()
    assert {script.stderr for script in scripts} == {""}


@pytest.mark.once
def test_a_job_whose_wake_was_lost_runs_all_the_same(way: Way, store: SqliteStore, tmp_path: Path) -> None:
    """Written by a process without a link, or while the monitor was stopped."""
    script = way(
        """
        add(1).get(10)
        print("up", flush=True)
        until(lambda: os.path.exists("enough"), 30)
        """,
        wait=False,
    )
    script.wait_for("up")
    from autocron_web import codec

    job = Job(new_id(), "shop.tell", now(), now(), payload=codec.dump_call(("unlinked",), {}))
    store.enqueue([job])
    began = time.monotonic()
    wait_until(lambda: (tmp_path / "ledger").exists(), 5, "the run of a job of which nobody told")
    assert time.monotonic() - began < 2.5
    (tmp_path / "enough").touch()
    script.succeed()


@pytest.mark.once
def test_calls_do_not_wait_for_a_monitor_that_is_stopped(way: Way, tmp_path: Path) -> None:
    script = way(
        """
        add(1).get(10)
        print("up", flush=True)
        until(lambda: os.path.exists("stopped"), 30)
        for i in range(400):  # more than the socket holds
            add(i)
        print("all stored", flush=True)
        until(lambda: not autocron.get_results(1, state="waiting"), 30)
        """,
        wait=False,
    )
    script.wait_for("up")
    (monitor,), workers = wait_for_pool()
    os.kill(monitor, signal.SIGSTOP)
    try:
        (tmp_path / "stopped").touch()
        script.wait_for("all stored", 10)
        assert pids("monitor") == {monitor}
        assert all(map(alive, workers))
    finally:
        os.kill(monitor, signal.SIGCONT)
    script.succeed()
