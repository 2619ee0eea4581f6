"""Workers that are replaced after a number of jobs, or when they take too much memory."""

from __future__ import annotations

import pytest

import autocron_web as autocron
from autocron_web.errors import ConfigError
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

LIMITED = """
    def start_with(**limits):
        autocron.stop(20)
        autocron.start("shop.db", 1, **limits)

    @autocron.delay
    def work(i):
        note("ran", i, os.getpid())
        return os.getpid()
    """


@pytest.mark.once
def test_after_a_number_of_jobs_another_worker_takes_over_and_none_waits_for_it(
    way: Way, with_tasks: WithTasks
) -> None:
    """A new worker loads the app only when a job has run meanwhile: so the old one has not gone yet."""
    with_tasks(
        LIMITED
        + """
    if autocron.in_worker() and os.path.exists("slow"):
        so_far = len(noted("ran"))
        until(lambda: len(noted("ran")) > so_far, 20)
    """
    )
    way("""
        start_with(max_jobs=10)
        first = work(0).get(20)
        Path("slow").touch()
        results = []
        while len({line.split()[2] for line in noted("ran")}) < 3:
            results.append(work(len(results) + 1))
            results[-1].get(20)
        os.unlink("slow")
        equal({r.attempt for r in results}, {1})
        equal(len(noted("ran")), len(results) + 1)
        pids = [line.split()[2] for line in noted("ran")]
        assert all(pids.count(pid) >= 10 for pid in set(pids) - {pids[-1]}), pids
        """)


@pytest.mark.once
def test_a_worker_that_takes_too_much_memory_is_replaced(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        LIMITED
        + """
    @autocron.delay
    def hoard():
        global treasure
        treasure = b"x" * (150 << 20)
        return os.getpid()
    """
    )
    way("""
        start_with(max_memory=120)
        before = {work(i).get(20) for i in range(20)}
        equal(len(before), 1)
        equal(hoard().get(20), *before)
        until(lambda: work(0).get(20) not in before, 20)
        """)


@pytest.mark.once
def test_tasks_that_need_more_memory_than_there_may_be_are_told_of(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        LIMITED
        + """
    @autocron.delay
    def hungry():
        global module
        module = b"x" * (100 << 20)
        return os.getpid()
    """
    )
    script = way("""
        start_with(max_memory=60)
        for _ in range(4):
            hungry().get(20)
        until(lambda: len({hungry().get(20) for _ in range(3)}) > 1, 30)
        """)
    (line,) = script.stderr.splitlines()
    assert "MiB after 1 jobs, and max_memory is 60 MiB: it is replaced." in line


@pytest.mark.once
@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_worker_that_is_too_large_when_it_has_loaded_the_app_runs_jobs_all_the_same(
    way: Way, with_tasks: WithTasks, preload: str
) -> None:
    """One that grows is replaced, once it has grown; and the log has both numbers, once."""
    with_tasks(
        LIMITED
        + """
    ballast = b"x" * (80 << 20)

    @autocron.delay
    def hoard():
        global treasure
        treasure = b"x" * (100 << 20)
        return os.getpid()
    """
    )
    script = way(
        """
        from autocron_web.launch import ask_monitor
        for limit in (50, 105):
            autocron.stop(20)
            autocron.start("shop.db", 2, max_memory=limit)
            until(lambda: len({work(i).get(20) for i in range(2)}) == 2, 20)
            before = {work(i).get(20) for i in range(30)}
            assert len(before) <= 2, before
            told = ask_monitor(os.path.join(os.environ["AUTOCRON_HOME"], "shop.db"), 20)
            assert told["trouble"].startswith(f"max_memory is {limit} MiB, and a worker that has loaded")
            hoard().get(20)
            until(lambda: work(0).get(20) not in before, 20)
        """,
        env={"AUTOCRON_PRELOAD": preload},
    )
    lines = script.stderr.splitlines()
    assert [line.partition(" MiB")[0] for line in lines] == [
        "autocron: max_memory is 50",
        "autocron: max_memory is 105",
    ], lines


@pytest.mark.parametrize("limit", ["max_jobs", "max_memory"])
@pytest.mark.parametrize("value", [0, -1, True, "10", 1.5])
def test_a_limit_that_is_none(limit: str, value: object) -> None:
    keywords = {limit: value}
    with pytest.raises(ConfigError, match=f"{limit} is .*: give a whole number, 1 or more"):
        autocron.start("shop.db", **keywords)  # pyright: ignore[reportArgumentType] - wrong on purpose
