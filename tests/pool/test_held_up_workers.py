"""A worker that is held up between two jobs, as a machine or a container does it, and what is asked then."""

from __future__ import annotations

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

#: What prints is told on the worker's line. With `hold` made, the worker that does so next stops itself then.
PRINTING = """
    from autocron_web.pool.line import Line
    from autocron_web.pool.wire import Kind

    send = Line.send

    def send_and_stop(line, frame):
        send(line, frame)
        if frame.kind == Kind.RESULT:
            try:
                os.rename("hold", f"held-{os.getpid()}")
            except OSError:
                return
            os.kill(os.getpid(), signal.SIGSTOP)

    if autocron.in_worker():
        Line.send = send_and_stop

    @autocron.delay
    def work(number):
        note("ran", number)
        print(number)

    @autocron.delay(timeout=0.4)
    def limited(number):
        note("ran", number)
        print(number)

    def warm(task):
        task.enqueue_many([(-1,)] * 20)[-1].get(20)
        until(lambda: len(noted("ran")) == 20, 20)
        os.unlink("ledger")

    def held_up(task, count):
        '''So many jobs, and a worker (its pid) that is stopped since it has told how one has ended.'''
        Path("hold").touch()
        jobs = task.enqueue_many([(number,) for number in range(count)])
        until(lambda: list(Path().glob("held-*")), 20)
        return jobs, int(next(Path().glob("held-*")).name[5:])

    def ran():
        return sorted(int(line.split()[1]) for line in noted("ran"))

    def has_a_free_worker():
        equal(add(1).get(20), 11)
    """


def test_a_job_that_is_cancelled_then_does_not_begin(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(PRINTING)
    way("""
        warm(work)
        jobs, pid = held_up(work, 100)
        last = ran()[-1]
        until(lambda: jobs[last].is_ready, 20)
        cancelled = [last + 1, last + 2, last + 3, 99]
        equal([jobs[number].cancel() for number in cancelled], [True] * 4)
        has_a_free_worker()
        os.kill(pid, signal.SIGCONT)
        until(lambda: all(r.is_ready for r in jobs), 60)
        equal([number for number, r in enumerate(jobs) if r.status == "cancelled"], cancelled)
        equal(ran(), [number for number in range(100) if number not in cancelled])
        """, workers=1)  # fmt: skip


def test_no_clock_goes_on_of_a_job_that_was_taken_back(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(PRINTING)
    script = way("""
        warm(limited)
        jobs, pid = held_up(limited, 40)
        time.sleep(0.2)  # what lies ready is taken back after 0.05
        os.kill(pid, signal.SIGCONT)
        until(lambda: all(r.is_ready for r in jobs), 60)
        time.sleep(0.5)  # the timeout of all of them
        has_a_free_worker()
        equal(len(ran()), 40)
        equal({r.attempt for r in jobs}, {1})
        """, workers=1)  # fmt: skip
    assert "the monitor has failed" not in script.stderr, script.stderr


def test_a_job_that_runs_into_its_timeout_then_does_not_begin(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(PRINTING)
    way("""
        warm(limited)
        jobs, pid = held_up(limited, 10)
        until(lambda: sum(r.is_ready for r in jobs) == 9, 60)  # one is in its hands
        time.sleep(0.5)  # its timeout
        os.kill(pid, signal.SIGCONT)
        until(lambda: all(r.is_ready for r in jobs), 60)
        (late,) = [number for number, r in enumerate(jobs) if r.has_error]
        assert "longer than its timeout of 0.4 s" in jobs[late].error_message, jobs[late].error_message
        equal(ran(), [number for number in range(10) if number != late])
        """)


@pytest.mark.parametrize("accident", ["cancels", "recycling"])
def test_no_worker_is_lost_whatever_is_taken_back_between_two_jobs(
    way: Way, with_tasks: WithTasks, accident: str
) -> None:
    """`recycling`: the only app process ends and is replaced, as by gunicorn's max_requests."""
    with_tasks(PRINTING)
    script = way(f"""
        accident = {accident!r}
        for turn in range(8):
            jobs = work.enqueue_many([(number,) for number in range(120)])
            time.sleep(turn % 4 * 0.005)  # so that it meets the worker at one point or another
            if accident == "cancels":
                for r in jobs[-25:]:
                    r.cancel()
            else:
                autocron.leave()
                until(lambda: "autocron-link" not in [thread.name for thread in threading.enumerate()])
                start(1)
            until(lambda: all(r.is_ready for r in jobs), 60)
        has_a_free_worker()
        """, workers=1, wait=False)  # fmt: skip
    script.succeed(120)
    assert "the monitor has failed" not in script.stderr, script.stderr


def test_a_job_that_is_cancelled_while_its_worker_loads_more_does_not_begin(
    way: Way, with_tasks: WithTasks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with_tasks("""
        def late():
            '''A module with tasks, which workers take their time to import.'''
            Path("late_tasks.py").write_text(
                "from shop import *\\n"
                "if autocron.in_worker():\\n"
                "    note('loading')\\n"
                "    until(lambda: os.path.exists('go'), 60)\\n"
                "@autocron.delay\\n"
                "def late_task(): return 1\\n"
            )
            import late_tasks
            return late_tasks.late_task
        """)
    way("""
        equal(add(1).get(20), 11)
        late_task = late()()
        until(lambda: noted("loading"), 20)
        r = tell("ran")
        began = time.monotonic()
        until(lambda: r.status == "running" or time.monotonic() > began + 0.3)
        assert r.cancel()
        Path("go").touch()
        equal(late_task.get(20), 1)
        equal(add(1).get(20), 11)
        until(lambda: r.is_ready)
        equal((r.status, noted("ran")), ("cancelled", []))
        """, workers=1)  # fmt: skip


def test_a_coroutine_that_is_cancelled_while_another_one_holds_up_the_loop_does_not_begin(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks("""
        @autocron.delay(concurrency=5)
        async def beside(word):
            note("begin", word)
            if word == "block":
                until(lambda: os.path.exists("go"), 60)
        """)
    way("""
        block = beside("block")
        until(lambda: noted("begin block"))
        other = beside("other")
        until(lambda: other.status == "running")
        assert other.cancel()
        equal(add(1).get(20), 11)  # by another worker: so the monitor has heard of the cancel
        Path("go").touch()
        until(lambda: other.is_ready and block.is_ready, 20)
        equal((block.status, other.status, noted("begin")), ("done", "cancelled", ["begin block"]))
        """)


def test_a_job_that_runs_too_long_and_is_cancelled_then_is_not_tried_again(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks("""
        @autocron.delay(timeout=0.2, retries=3, backoff=0)
        def stubborn():
            try:
                note("begin")
                threading.Event().wait(60)
            finally:
                note("ending")
                until(lambda: os.path.exists("cancelled"), 4)
        """)
    way("""
        r = stubborn()
        until(lambda: noted("ending"), 20)
        assert r.cancel()
        equal(add(1).get(20), 11)
        Path("cancelled").touch()
        until(lambda: r.is_ready, 20)
        equal((r.status, len(noted("begin"))), ("cancelled", 1))
        """)
