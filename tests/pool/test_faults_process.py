"""Processes of a pool and its app that are stopped or killed at chosen moments, each fault by its number."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from conftest import pool_processes, wait_until
from pool_app import App, alive, app, pids, seconds_until, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once

TASKS = '''
def many(number):
    tell.enqueue_many([(str(index),) for index in range(int(number))])


def one_by_one(number):
    """Say how long the slowest of so many calls took, in milliseconds."""
    slowest = 0.0
    for index in range(int(number)):
        began = time.monotonic()
        tell(str(index))
        slowest = max(slowest, time.monotonic() - began)
    note("slowest", int(slowest * 1000))


def later(seconds):
    tell.options(seconds=float(seconds)).enqueue("later")


@autocron.delay(timeout=1.5)
def limited(word):
    hold.call(word)


@autocron.delay(timeout=1.5, retries=1, backoff=0.1)
def repeated(word):
    hold.call(word)


@autocron.delay
def hog(size):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (int(size), resource.RLIM_INFINITY))
    try:
        return len(bytearray(2 * int(size)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@autocron.delay
def killed(word):
    note("begin", word, os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def calm(word):
    """From now on end by SIGINT as by SIGTERM."""
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
'''


@pytest.fixture(autouse=True)
def tasks(app: App) -> None:
    app.add(TASKS)


def state(pid: int) -> str:
    """The letter of proc(5): T for a stopped process, Z for a zombie; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def stop(*processes: int) -> None:
    """SIGSTOP, and wait until they have stopped."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state(pid) == "T" for pid in processes), 5, "that the processes stop")


def kill(*processes: int) -> None:
    """SIGKILL, and wait until they are gone."""
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, processes)), 5, "the end of killed processes")


def test_3_killed_after_the_function_and_before_its_result_is_written(app: App) -> None:
    app.run("hold:a")
    app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    with app.locked():
        app.release("a")
        app.wait_for("end a")
        kill(monitor)
    (job,) = app.wait_for_states("done")
    assert (job.attempt, job.crashes) == (2, 0)
    assert len(app.lines("end a")) == 2


def test_4_killed_after_the_hand_over_and_before_the_function(app: App) -> None:
    _, workers = app.run_idle()
    stop(*workers)
    app.run("tell:a")
    wait_until(lambda: app.jobs()[0].state == "running", 10, "the hand-over")
    kill(*workers)
    app.wait_for("tell a")
    job = app.wait_for_states("done", "done", "done")[-1]
    # The second of the stopped workers may have been handed the job too, before it was killed.
    assert (job.attempt, job.crashes) in ((2, 1), (3, 2))
    assert len(app.lines("tell a")) == 1


def test_5_signals_that_end_a_program_do_not_end_a_worker(app: App) -> None:
    monitor, workers = app.run_idle()
    app.run("hold:a")
    ((_, _, busy),) = app.wait_for("begin a")
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker, number)
    app.release("a")
    app.run("tell:b")
    app.wait_for_states("done", "done", "done", "done")
    assert app.lines("end a")[0][2] == busy
    assert wait_for_pool() == ({monitor}, workers)


def test_5_a_monitor_that_is_told_to_end_hands_back_what_no_worker_has(app: App) -> None:
    monitor, _ = app.run_idle()
    script = app.start("many:2000")
    while app.store.counts().get("running", 0) < 5:  # more than workers: some lie ready
        os.kill(monitor, signal.SIGCONT)
        time.sleep(0.02)
        stop(monitor)
        assert app.store.counts().get("done", 0) < 2002
    os.kill(monitor, signal.SIGTERM)
    os.kill(monitor, signal.SIGCONT)
    wait_until(lambda: not alive(monitor), 10, "the end of the monitor")
    counts = app.store.counts()
    assert counts["waiting"]
    assert "running" not in counts
    assert {job.attempt for job in app.store.jobs(state="waiting", limit=3000)} == {0}
    script.wait_for("called")
    app.wait_for_counts(done=2002)
    assert {job.attempt for job in app.store.jobs(limit=3000)} == {1}
    assert len(app.lines("tell")) == 2000


def test_7_monitor_and_app_are_killed_together(app: App) -> None:
    script = app.run("hold:a")
    app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    os.kill(script.pid, signal.SIGKILL)
    os.kill(monitor, signal.SIGKILL)
    took = seconds_until(lambda: not pool_processes(), 10, "the end of the pool")
    assert took < 3  # promised is one second
    assert app.jobs()[0].state == "running"  # nobody is left who could have written
    app.release("a")
    app.run()
    (job,) = app.wait_for_states("done")
    assert (job.attempt, job.crashes) == (2, 0)


def test_9_all_app_processes_are_killed_at_once(app: App) -> None:
    scripts = [app.run(call) for call in ("hold:a", "hold:b", "hold:c", "hold:d")]
    app.wait_for("begin", count=2)
    for script in scripts:
        os.kill(script.pid, signal.SIGKILL)
    took = seconds_until(lambda: not pool_processes(), 25, "the end of the pool")
    assert 14 < took < 18  # linger, drain and a second
    assert app.store.counts() == {"waiting": 4}
    assert sorted(job.attempt for job in app.jobs()) == [0, 0, 1, 1]


def test_10_a_stopped_worker_is_ended_by_the_timeout_and_not_before(app: App) -> None:
    app.run("limited:a", "repeated:b")
    stopped = [int(line[2]) for line in app.wait_for("begin", count=2)]
    began = time.monotonic()
    stop(*stopped)
    wait_until(lambda: not any(map(alive, stopped)), 10, "the end of the stopped workers")
    assert time.monotonic() - began > 1
    app.wait_for("begin b", count=2)
    app.release("b")
    failed, repeated = app.wait_for_states("error", "done")
    assert (failed.error_type, failed.attempt, failed.crashes) == ("TimeoutError", 1, 0)
    assert (repeated.attempt, repeated.crashes) == (2, 0)
    wait_for_pool()


def test_11_calls_do_not_wait_for_a_stopped_monitor_and_no_other_one_starts(app: App) -> None:
    monitor, workers = app.run_idle()
    stop(monitor)
    app.run("one_by_one:500")
    ((_, slowest),) = app.lines("slowest")
    assert int(slowest) < 2000
    joined = app.run("tell:b")
    assert "started False" in joined.stdout
    assert pids("monitor") == {monitor}
    os.kill(monitor, signal.SIGCONT)
    app.wait_for_counts(done=503)
    assert wait_for_pool() == ({monitor}, workers)
    assert {job.attempt for job in app.store.jobs(limit=600)} == {1}


def test_12_a_stopped_app_process_counts_as_alive(app: App) -> None:
    script = app.run("later:6.5")  # longer than the linger
    stop(script.pid)
    app.wait_for("tell later")
    wait_for_pool()
    os.kill(script.pid, signal.SIGCONT)
    wait_until(lambda: state(script.pid) == "S", 5, "that its main thread takes the next signal")


def test_14_a_zombie_is_dead(app: App) -> None:
    script = app.run("tell:a")
    app.wait_for("tell a")
    os.kill(script.pid, signal.SIGKILL)
    seconds_until(lambda: not pool_processes(), 10, "the end of the pool")
    assert state(script.pid) == "Z"  # until somebody waits for it


def test_16_memory_that_runs_out_is_an_error_of_the_task(app: App) -> None:
    app.run(f"hog:{1 << 30}", "tell:a")
    failed, _ = app.wait_for_states("error", "done")
    assert failed.error_type == "MemoryError"
    assert (failed.attempt, failed.crashes) == (1, 0)


def test_16_a_task_whose_worker_is_killed_each_time_is_given_up(app: App) -> None:
    app.run("killed:a", "tell:b")
    failed, _ = app.wait_for_states("error", "done")
    assert (failed.attempt, failed.crashes) == (3, 3)
    assert "SIGKILL (out of memory?)" in (failed.error or "")
    assert "3 times" in (failed.error or "")
    assert len(app.lines("begin a")) == 3
    wait_for_pool()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_17_a_signal_to_all_processes_is_one_drain(app: App, number: signal.Signals) -> None:
    script = app.run("calm:x", "hold:a", "tell:b")
    app.wait_for("begin a")
    app.wait_for("tell b")
    for pid in [script.pid, *pool_processes()]:
        os.kill(pid, number)
    app.release("a")
    assert script.wait(15) == 0
    seconds_until(lambda: not pool_processes(), 3, "the end of the pool")
    assert app.store.counts() == {"done": 2}
    assert [job.attempt for job in app.jobs()] == [1, 1]
    assert script.stderr == ""


def test_17_an_app_that_has_blocked_all_signals(app: App) -> None:
    """As servers do in threads of their own: the monitor must hear of its workers, and of its own end."""
    text = app.file.read_text()
    block = "    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))\n"
    free = "    signal.pthread_sigmask(signal.SIG_SETMASK, ())\n"
    app.file.write_text(
        text.replace("    print(", f"{block}    print(", 1).replace("    for call", f"{free}    for call")
    )
    monitor, workers = app.run_idle()
    kill(*workers)
    wait_until(lambda: len(pids("worker") - workers) == 2, 10, "other workers")
    os.kill(monitor, signal.SIGTERM)
    wait_until(lambda: not alive(monitor), 10, "the end of the monitor")


def test_17_a_signal_to_workers_that_have_just_been_born(app: App) -> None:
    script = app.run("calm:x")
    _, workers = app.run_idle()
    kill(*workers)
    born: set[int] = set()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        for worker in pids("worker") - workers:
            born.add(worker)
            os.kill(worker, signal.SIGINT)
            os.kill(worker, signal.SIGTERM)
    app.run("tell:a")
    app.wait_for("tell a")
    assert wait_for_pool()[1] == born
    assert script.stderr == ""
