"""Tasks with `concurrency`: several coroutines at once in one worker."""

from __future__ import annotations

import pytest

import autocron_web as autocron
import autocron_web.tasks
from pool_way import MEET, Way, WithTasks, store, way, with_tasks  # noqa: F401


@pytest.fixture(autouse=True)
def tasks(with_tasks: WithTasks) -> None:
    with_tasks(MEET)


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
        MEET
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
        MEET
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


def test_a_task_that_waits_for_another_awaits_it(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
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


def test_what_they_change_is_put_back_when_none_runs_any_more(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
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


def test_of_several_tasks_the_least_number_counts(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        MEET
        + """

@autocron.delay(concurrency=2)
async def pair(word):
    return await meet.call(word)
"""
    )
    way(
        """
        first, second, third = meet("a"), pair("b"), meet("c")
        begun(2)
        time.sleep(0.3)  # in which a third one could begin
        equal(len(noted("begin")), 2)
        release("b")
        equal(second.get(10), "b")
        begun(3)  # now that one is gone which allows only two
        fourth = meet("d")
        begun(4)  # and nothing remembers that one
        for word in "acd":
            release(word)
        equal([result.get(10) for result in (first, third, fourth)], list("acd"))
        """,
        workers=1,
    )
