"""Processes that die: every fault is caused for real. The numbers are those of docs/faults.md."""

from __future__ import annotations

import os
import signal

import pytest

from conftest import pool_processes, wait_until
from pool_app import App, alive, app, pids, seconds_until, wait_for_pool  # noqa: F401

SOON = 5.0  # seconds: what is promised "within a second" is measured where the machine is not busy


def test_1_an_idle_worker_is_killed(app: App) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    monitors, workers = wait_for_pool()
    victim = workers.pop()
    os.kill(victim, signal.SIGKILL)
    seconds_until(lambda: len(pids("worker") - {victim}) == 2, SOON, "a new worker")
    assert pids("monitor") == monitors
    app.run("tell:b")
    app.wait_for("tell b")
    assert [line[1] for line in app.lines("tell")] == ["a", "b"]


def test_2_a_worker_is_killed_in_a_task(app: App) -> None:
    app.run("hold:a")
    (_, _, first), *_ = app.wait_for("begin a")
    os.kill(int(first), signal.SIGKILL)
    app.wait_for("begin a", count=2, timeout=SOON)
    app.release("a")
    (job,) = app.wait_for_states("done")
    assert (job.attempt, job.crashes) == (2, 1)
    assert len(app.lines("end a")) == 1


def test_6_the_monitor_is_killed(app: App) -> None:
    app.run("hold:a", "tell:b")
    app.wait_for("begin a")
    app.wait_for_states("running", "done")  # that b has told is not yet that its end is in the store
    (monitor,), workers = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    seconds_until(lambda: not any(map(alive, workers)), SOON, "the end of the workers of a dead monitor")
    (other,), _ = wait_for_pool()
    assert other != monitor
    app.wait_for("begin a", count=2)
    app.release("a")
    done, told = app.wait_for_states("done", "done")
    assert (done.attempt, done.crashes) == (2, 0)  # nobody saw the worker crash
    assert told.attempt == 1
    assert len(app.lines("tell b")) == 1


def test_6_what_a_task_has_started_ends_with_its_worker(app: App) -> None:
    app.run("parent:a")
    (_, _, child), *_ = app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: not alive(int(child)), 10, "the end of a task's own child")


@pytest.mark.once
def test_8_the_only_app_process_is_killed(app: App) -> None:
    script = app.run("hold:a", "tell:b")
    app.wait_for("begin a")
    app.wait_for("tell b")
    script.kill()
    app.release("a")  # within the drain: it may finish
    took = seconds_until(lambda: not pool_processes(), 20, "the end of the pool")
    assert took > 4  # it lingers: servers leave gaps
    assert [job.state for job in app.jobs()] == ["done", "done"]


@pytest.mark.once
def test_8_a_job_that_outlasts_the_drain_waits_again_and_runs_after_the_next_start(app: App) -> None:
    script = app.run("hold:a")
    app.wait_for("begin a")
    script.kill()
    seconds_until(lambda: not pool_processes(), 25, "the end of the pool after linger and drain")
    (job,) = app.jobs()
    assert (job.state, job.attempt, job.crashes) == ("waiting", 1, 0)
    app.release("a")
    app.run()
    (job,) = app.wait_for_states("done")
    assert (job.attempt, job.crashes) == (2, 0)


def test_39_a_task_that_exits_the_process_has_crashed(app: App) -> None:
    app.run("vanish:a", "tell:b")
    vanished, told = app.wait_for_states("error", "done")
    assert (vanished.attempt, vanished.crashes) == (3, 3)
    assert "exited with status 0" in (vanished.error or "")
    assert len(app.lines("begin a")) == 3
    assert told.attempt == 1
    wait_for_pool()
