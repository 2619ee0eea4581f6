"""Tasks with `concurrency`: several coroutines at once in one worker."""

from __future__ import annotations

from pathlib import Path

import pytest

import autocron_web as autocron
import autocron_web.tasks
from pool_way import Way, WithTasks, store, way, with_tasks  # noqa: F401

TASKS = '''
from contextvars import ContextVar

word_of = ContextVar("word_of")


@autocron.delay(concurrency=3)
async def meet(word):
    """Run until the file `release-<word>` is there."""
    word_of.set(word)
    note("begin", word, os.getpid())
    while not os.path.exists(f"release-{word}"):
        await asyncio.sleep(0.01)
    print("printed by", word_of.get())
    return word_of.get()


@autocron.delay
async def alone(word):
    note("begin", word, os.getpid())
    return word


def begun(count):
    until(lambda: len(noted("begin")) >= count)
    return noted("begin")
'''


@pytest.fixture(autouse=True)
def tasks(with_tasks: WithTasks) -> None:
    with_tasks(TASKS)


def test_as_many_coroutines_run_beside_each_other_as_their_task_allows(way: Way) -> None:
    way(
        """
        results = [meet(word) for word in "abcd"]
        begun(3)
        release("b")
        equal(results[1].get(10), "b")
        begun(4)  # the fourth has taken its place
        command = [sys.executable, "-m", "autocron_web", "shop.db", "status", "--json"]
        status = subprocess.run(command, stdout=subprocess.PIPE)
        (worker,) = json.loads(status.stdout)["pool"]["workers"]
        equal((worker["job"]["id"], worker["beside"]), (results[0].id, 2))
        equal([line.split()[1] for line in noted("begin")], list("abcd"))
        equal(len({line.split()[2] for line in noted("begin")}), 1)
        for word in "acd":
            release(word)
        equal([result.get(10) for result in results], list("abcd"))
        equal([result.attempt for result in results], [1] * 4)
        """,
        workers=1,
    )


def test_each_has_an_output_a_context_and_a_progress_of_its_own(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
        + """

@autocron.delay(concurrency=3)
async def say(word):
    note("begin", word, os.getpid())
    autocron.progress(1, 2, word)
    child = await alone.aenqueue(word)
    print("first", word)
    await asyncio.to_thread(print, "thread", word, file=sys.stderr)
    while not os.path.exists("release-all"):
        await asyncio.sleep(0.01)
    print("last", word)
    return child.id
"""
    )
    way("""
        results = [say(word) for word in "ab"]
        begun(2)
        until(lambda: all(result.progress for result in results))
        equal([result.progress.note for result in results], ["a", "b"])
        release("all")
        children = [result.get(10) for result in results]
        outputs = [result.output for result in results]
        equal(outputs, [f"first {word}\\nthread {word}\\nlast {word}\\n" for word in "ab"])
        found = {job.id: job.parent for job in autocron.engine.engine.client.jobs(10, "more.alone", None)}
        equal([found[child] for child in children], [result.id for result in results])
        """)


def test_one_is_cancelled_and_one_runs_too_long_and_the_others_go_on(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
        + """

@autocron.delay(concurrency=3, timeout=0.5)
async def short(word):
    note("begin", word, os.getpid())
    try:
        await asyncio.sleep(60)
    finally:
        note("cleaned", word)
"""
    )
    way(
        """
        first, second, third = meet("a"), meet("b"), short("c")
        begun(3)
        assert second.cancel()
        raised(autocron.JobCancelled, second.get, 10)
        text = raised(autocron.JobFailed, third.get, 10)
        assert "the job ran longer than its timeout of 0.5 s and was ended" in text, text
        assert "await asyncio.sleep(60)" in text, text
        equal(noted("cleaned"), ["cleaned c"])
        again = meet("d")  # in the same worker, as nothing has happened to it
        begun(4)
        release("a"), release("d")
        equal((first.get(10), again.get(10), first.attempt, again.attempt), ("a", "d", 1, 1))
        equal(len({line.split()[2] for line in noted("begin")}), 1)
        """,
        workers=1,
    )


def test_one_that_holds_up_the_loop_is_killed_and_the_others_run_again(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(
        TASKS
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
        TASKS
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


def test_a_job_of_another_kind_gets_its_turn(way: Way) -> None:
    way(
        """
        first = meet("a")
        begun(1)
        other = tell("other")
        second = meet("b")
        time.sleep(0.3)  # in which it could begin beside the first
        release("a")
        equal(first.get(10), "a")
        other.get(10)
        release("b")
        equal(second.get(10), "b")
        equal([line.rpartition(" ")[0] or line for line in noted()], ["begin a", "other", "begin b"])
        """,
        workers=1,
    )


def test_a_failed_one_is_reported_and_tried_again_beside_the_others(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
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


def test_a_task_that_waits_for_another_awaits_it(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
        + """

@autocron.delay(concurrency=3)
async def parent(word):
    if word == "get":
        return raised(RuntimeError, meet(word).get)
    return await meet(word)


@autocron.delay(concurrency=3)
async def stuck():
    return await alone("never")
"""
    )
    way(
        """
        release("a"), release("get")
        equal(parent("a").get(10), "a")
        equal(parent("get").get(10), "get() would hold up all jobs of this worker: await the Result instead")
        assert "AllWorkersWait" in raised(autocron.JobFailed, stuck().get, 20)
        """,
        workers=1,
    )


def test_a_child_that_one_forks_and_lets_return_is_nobody(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
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


def test_what_they_change_is_put_back_when_none_runs_any_more(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        TASKS
        + """

@autocron.delay(concurrency=3)
async def change():
    os.umask(0o007)


@autocron.delay
def mask():
    return os.umask(0o007)
"""
    )
    way(
        """
        before = mask().get(10)
        first = meet("a")
        begun(1)
        change().get(10)
        release("a")
        first.get(10)
        equal(mask().get(10), before)
        """,
        workers=1,
    )


@pytest.mark.parametrize("number", [0, 1001, True, "many"])
def test_the_number_is_a_number(number: object) -> None:
    with pytest.raises(autocron.ConfigError, match=r"^concurrency is .*: give a whole number from 1 to 1000"):
        autocron.delay(concurrency=number)  # type: ignore[call-overload]


def test_only_coroutines_run_beside_each_other() -> None:
    def plain() -> None: ...

    async def coroutine() -> None: ...

    with pytest.raises(autocron.TaskDefinitionError) as caught:
        autocron.delay(concurrency=2)(plain)
    assert str(caught.value).endswith(
        ".plain cannot have concurrency=2: only coroutines run beside each other in a worker."
        " Write it with `async def`, or start more workers"
    )
    task = autocron.delay(concurrency=2)(coroutine)
    del autocron.tasks.registry[task.name]
    with pytest.raises(autocron.ConfigError, match=r"^concurrency is an option of the task"):
        task.options(concurrency=3)  # type: ignore[call-arg]


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
