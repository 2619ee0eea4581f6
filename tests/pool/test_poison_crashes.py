"""Tasks that bring their worker down: faults 38, 39, 41, 42 and 49."""

from __future__ import annotations

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401


def test_38_a_segfault_and_an_abort_are_named_with_the_line(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def poison(word):
            sys.stderr.close()
            os.abort() if word == "abort" else ctypes.string_at(0)  # the line of the user
        """)
    script = way("""
        ends = (("segv", "SIGSEGV", "Segmentation fault"), ("abort", "SIGABRT", "Aborted"))
        for word, name, sentence in ends:
            r = poison(word)
            raised(autocron.JobFailed, r.get, 20)
            text = r.error_message
            assert text.startswith(f"the worker was killed by {name} while it ran the job; 3 times\\n"), text
            assert f"Fatal Python error: {sentence}" in text, text
            line = [line for line in text.splitlines() if "more.py" in line][0]
            assert line.endswith("in poison"), text
            assert sentence in r.output, r.output
            equal(r.attempt, 3)
        equal(add(1).get(10), 11)
        """)
    assert "Segmentation fault" in script.stderr


@pytest.mark.once
def test_39_leaving_the_process_is_a_crash(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def leave(status):
            os._exit(status)
        """)
    way("""
        results = [leave(0), leave(3)]
        for r, status in zip(results, (0, 3)):
            raised(autocron.JobFailed, r.get, 20)
            equal(r.error_message, f"the worker exited with status {status} while it ran the job; 3 times")
        """)


def test_41_endless_recursion_and_a_deep_result_end_the_job_alone(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def poison(word):
            if word == "recursion":
                return poison.call(word)
            deep = []
            for _ in range(100_000):
                deep = [deep]
            if word == "repr":
                return repr(deep)
            if word == "raise":
                raise ValueError(deep)
            return deep

        @autocron.delay
        def whoami():
            return os.getpid()
        """)
    way(
        """
        worker = whoami().get(10)
        for word in ("recursion", "repr"):
            assert "RecursionError" in raised(autocron.JobFailed, poison(word).get, 20), word
        assert "ValueError" in raised(autocron.JobFailed, poison("raise").get, 20)
        r = poison("result")
        equal((r.get(20), r.status), (None, "done"))
        assert "100 containers" in r.reason or "deep" in r.reason, r.reason
        equal(whoami().get(10), worker)
        """,
        workers=1,
    )


@pytest.mark.once
def test_42_recursion_without_a_limit_is_ended_by_the_timeout(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        import resource

        @autocron.delay(timeout=0.5)
        def endless():
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
            sys.setrecursionlimit(10**9)
            def deeper(): return deeper()
            deeper()
        """)
    way("""
        r = endless()
        text = raised(autocron.JobFailed, r.get, 30)
        # It depends on the version of Python.
        ways = ("its timeout of 0.5 s", "SIGSEGV", "MemoryError", "RecursionError")
        assert any(way in text for way in ways), text
        equal(add(1).get(10), 11)
        """)


@pytest.mark.once
def test_49_a_task_that_closes_all_descriptors_crashes_alone_and_corrupts_nothing(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks("""
        @autocron.delay
        def poison(first, last):
            os.closerange(first, last)
            files = [open(f"mine-{number}", "w+") for number in range(120)]
            for file in files:
                file.write("my own")
                file.flush()
            return len(files)

        @autocron.delay
        def read():
            return {Path(f"mine-{number}").read_text() for number in range(120)}
        """)
    way("""
        import re

        equal(poison(3, 90).get(20), 120)  # what the worker needs lies above
        equal(read().get(10), {"my own"})
        text = raised(autocron.JobFailed, poison(0, 1024).get, 20)
        # 120: Python could not write to its standard streams at its end either
        assert re.search("the worker exited with status (1|120) while it ran the job; 3 times", text), text
        equal(read().get(10), {"my own"})
        equal(add(1).get(10), 11)
        """)
