"""Coroutines beside each other in a worker that crashes, is held up, replaced or ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool_way import MEET, Way, WithTasks, store, way, with_tasks  # noqa: F401

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def tasks(with_tasks: WithTasks) -> None:
    with_tasks(MEET)


def test_one_that_holds_up_the_loop_is_killed_and_the_others_run_again(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(
        MEET
        + """

@autocron.delay(concurrency=3, timeout=0.5)
async def block():
    note("block")
    time.sleep(60)
"""
    )
    way(
        """
        first = meet("a")
        begun(1)
        text = raised(autocron.JobFailed, block().get, 20)
        assert "TimeoutError" in text or "timeout of 0.5 s" in text, text
        begun(2)
        release("a")
        equal((first.get(10), first.attempt), ("a", 2))
        (job,) = autocron.engine.engine.client.jobs(10, "more.meet", None)
        equal(job.crashes, 0)
        """,
        workers=1,
    )


def test_a_crash_is_one_of_all_that_ran_and_then_each_runs_alone(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
        + """

@autocron.delay(concurrency=3)
async def crash():
    note("crash")
    os._exit(1)
"""
    )
    way(
        """
        first, second = meet("a"), meet("b")
        begun(2)
        text = raised(autocron.JobFailed, crash().get, 20)
        assert text.endswith("while it ran the job; 3 times"), text
        begun(4)
        equal(len({line.split()[2] for line in noted("begin")[2:]}), 2)  # not in one worker
        release("a"), release("b")
        equal((first.get(10), second.get(10), first.attempt, second.attempt), ("a", "b", 2, 2))
        equal(len(noted("crash")), 3)
        """,
        workers=3,
    )


def test_a_failed_one_is_reported_and_tried_again_beside_the_others(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
        + """

@autocron.delay(concurrency=3, retries=1, backoff=0.01)
async def fail_in(word):
    note("begin", word, os.getpid())
    await asyncio.sleep(0)
    raise SystemExit(word)  # the line of the user


@autocron.on_error
def report(job, error):
    note("report", job.task, type(error).__name__, error, os.getpid())
"""
    )
    way(
        """
        first = meet("a")
        begun(1)
        failing = fail_in("b")
        text = raised(autocron.JobFailed, failing.get, 10)
        assert "# the line of the user" in text and "execution.py" not in text, text
        equal(failing.attempt, 2)
        until(lambda: noted("report"))
        third = meet("c")
        begun(4)
        release("a"), release("c")
        equal((first.get(10), third.get(10), first.attempt), ("a", "c", 1))
        (line,) = noted("report")
        equal(line.split()[:4], ["report", "more.fail_in", "SystemExit", "b"])
        equal({begun.split()[2] for begun in noted("begin")}, {line.split()[4]})
        """,
        workers=1,
    )


def test_the_end_of_the_pool_lets_them_end(way: Way) -> None:
    way(
        """
        first, second = meet("a"), meet("b")
        begun(2)
        threading.Timer(0.5, lambda: (release("a"), release("b"))).start()
        assert autocron.stop(20)
        """,
        workers=1,
    )


def test_newer_modules_are_loaded_when_none_runs_and_the_next_one_waits_for_that(
    way: Way, tmp_path: Path
) -> None:
    (tmp_path / "late.py").write_text(
        "from shop import *\n\n@autocron.delay\ndef late():\n    return 'late'\n"
    )
    way(
        """
        first = meet("a")
        begun(1)
        from late import late
        result = late()
        second = meet("b")
        time.sleep(0.3)  # in which it could begin beside the first
        equal(len(noted("begin")), 1)
        release("a"), release("b")
        equal((first.get(10), result.get(10), second.get(10)), ("a", "late", "b"))
        """,
        workers=1,
    )


def test_a_child_that_one_forks_and_lets_return_is_nobody(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
        + """

@autocron.delay(concurrency=3)
async def fork(word):
    child = os.fork()
    if child:
        await asyncio.to_thread(os.waitpid, child, 0)
    else:
        await asyncio.sleep(0)
        note("child went on")
    return word
"""
    )
    way(
        """
        first = meet("a")
        begun(1)
        equal(fork("b").get(10), "b")
        release("a")
        equal(first.get(10), "a")
        equal([line for line in noted() if "begin" not in line], [])
        """,
        workers=1,
    )


def test_many_go_through_a_few_workers_each_once(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay(concurrency=50)
        async def nap(number):
            note("nap", number)
            await asyncio.sleep(0.05)
            return number
        """)
    way("""
        results = nap.enqueue_many([(number,) for number in range(300)])
        others = tell.enqueue_many([(number,) for number in range(20)])
        equal([result.get(25) for result in results], list(range(300)))
        equal({result.attempt for result in results}, {1})
        equal(sorted(int(line.split()[1]) for line in noted("nap")), list(range(300)))
        for other in others:
            other.get(10)
        """)


def test_when_the_monitor_dies_all_of_them_run_again(way: Way) -> None:
    way(
        """
        first, second = meet("a"), meet("b")
        begun(2)
        command = [sys.executable, "-m", "autocron_web", "shop.db", "status", "--json"]
        status = json.loads(subprocess.run(command, stdout=subprocess.PIPE).stdout)
        os.kill(status["pool"]["monitor"]["pid"], signal.SIGKILL)
        begun(4)
        release("a"), release("b")
        equal((first.get(10), second.get(10), first.attempt, second.attempt), ("a", "b", 2, 2))
        """,
        workers=1,
    )


def test_a_worker_that_has_run_enough_ends_after_the_last_of_them(way: Way) -> None:
    way(
        """
        autocron.stop(20)
        autocron.start("shop.db", 1, max_jobs=3)
        first, others = meet("long"), [meet(word) for word in "ab"]
        begun(3)
        release("a"), release("b")
        equal([other.get(10) for other in others], ["a", "b"])
        later = []
        while len({line.split()[2] for line in noted("begin")}) < 2:  # until another worker has taken over
            release(len(later))
            later.append(meet(len(later)))
            later[-1].get(10)
        release("long")
        equal((first.get(10), first.attempt, {result.attempt for result in later}), ("long", 1, {1}))
        """
    )
