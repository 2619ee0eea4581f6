"""Tasks that use tasks: from forked children, a hundred thousand of them, and waiting for one another."""

from __future__ import annotations

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

FAMILY = """
    @autocron.delay
    def parent(word, depth=1):
        note("begin", word, depth)
        try:
            return parent(word, depth - 1).get() if depth else word
        except autocron.AllWorkersWait as error:
            note("stuck", word, depth, error)
            raise

    @autocron.delay
    async def async_parent(word):
        return await add(1)

    @autocron.delay
    def threads(word):
        values = []
        thread = threading.Thread(target=lambda: values.append(add(1).get(30)))
        thread.start()
        thread.join()
        return values
    """


def test_54_waiting_for_a_job_that_no_worker_is_free_to_run_is_an_error(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(FAMILY)
    way(
        """
        r = parent("eve")
        text = raised(autocron.JobFailed, r.get, 20)
        assert "cannot begin: each of the 1 workers runs a task that waits for a job" in text, text
        until(lambda: len(noted("begin eve 0")) == 1)  # then there is room for the child
        assert "AllWorkersWait" in raised(autocron.JobFailed, async_parent("eve").get, 20)
        """,
        workers=1,
    )


@pytest.mark.once
def test_54_one_of_those_that_wait_for_one_another_makes_room_for_the_others(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(FAMILY)
    way("""
        results = [parent("a"), parent("b")]
        until(lambda: all(r.status in ("done", "error") for r in results), 30)
        equal(sorted(r.status for r in results), ["done", "error"])
        equal(len(noted("stuck")), 1)
        assert "AllWorkersWait" in raised(autocron.JobFailed, parent("deep", 2).get, 20)
        """)


@pytest.mark.once
def test_54_whoever_waits_for_what_goes_on_is_left_alone(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(
        FAMILY
        + """
    @autocron.delay
    def wait_for(word):
        return hold(word).get()

    @autocron.delay
    def impatient():
        raised(autocron.ResultTimeout, add(1).get, 0.5)
        raised(autocron.ResultTimeout, add.options(hours=1).enqueue(1).get, 2.5)
        return "went on"
    """
    )
    way("""
        r = wait_for("x")
        until(lambda: noted("begin x"))
        other = hold("y")  # waits for a worker, as nobody's child
        time.sleep(2.5)
        release("x")
        equal(r.get(10), "x")
        release("y")
        equal(other.get(10), "y")
        equal(threads("eve").get(20), [11])
        """)
    way("equal(impatient().get(20), 'went on')", workers=1)


def test_a_process_that_a_task_forks_can_use_tasks(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        import multiprocessing

        def child(i):
            autocron.progress(i, 4)
            waiting = tell.options(hours=1).enqueue("never")
            return add(i).get(20), waiting.cancel(), waiting.status, len(autocron.get_results()) > 0

        @autocron.delay
        def parent():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                found = pool.map(child, range(4))
            return found, add(1).get(10)

        @autocron.delay
        def large():
            pid = os.fork()
            if not pid:
                try:
                    text = "x" * 1_000_000
                    many = echo.enqueue_many([(i,) for i in range(3000)])
                    note("echoed", echo(text).get(20) == text, len(many))
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)

        @autocron.delay
        def echo(text):
            return text
        """)
    way("""
        r = parent()
        found, value = r.get(30)
        equal((found, value), ([(10 + i, True, "cancelled", True) for i in range(4)], 11))
        equal(r.progress.total, 4)
        children = [job for job in autocron.get_results() if job.task == "shop.add"]
        equal({job._read().parent for job in children}, {r.id})
        large().get(40)
        equal(noted("echoed"), ["echoed True 3000"])
        """)


@pytest.mark.once
@pytest.mark.timeout(150)
def test_54_a_hundred_thousand_jobs_of_one_task(way: Way, with_tasks: WithTasks) -> None:
    """They travel in pieces, so the monitor never holds all of them."""
    with_tasks("""
        @autocron.delay
        def fan_out(n):
            began = time.monotonic()
            results = tell.options(hours=1).enqueue_many([(i,) for i in range(n)])
            return len(results), time.monotonic() - began

        @autocron.delay
        def memory():
            status = Path(f"/proc/{os.getppid()}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) // 1024  # the most that it ever had, in MiB
        """)
    script = way(
        """
        before = memory().get(20)
        number, seconds = fan_out(100_000).get(100)
        equal(number, 100_000)
        after = memory().get(20)
        print(f"fan-out of 100,000 jobs: {seconds:.1f} s, monitor {before} -> {after} MiB")
        assert after - before < 40, (before, after)
        """,
        wait=False,
    )
    script.succeed(110)


@pytest.mark.once
def test_a_worker_ends_its_connections_of_forked_processes(way: Way, with_tasks: WithTasks) -> None:
    """Each fork has a connection of its own, which ends with it."""
    with_tasks("""
        @autocron.delay
        def forks():
            for i in range(30):
                pid = os.fork()
                if not pid:
                    try:
                        add(i)
                    finally:
                        os._exit(0)
                os.waitpid(pid, 0)
            return len(os.listdir(f"/proc/{os.getppid()}/fd"))
        """)
    way("""
        first = forks().get(30)
        assert forks().get(30) <= first + 3
        """)
