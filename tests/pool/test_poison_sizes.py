"""Tasks that give or print too much: faults 51 and 57."""

from __future__ import annotations

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401


@pytest.mark.once
def test_51_a_gigabyte_is_refused_with_size_and_limit(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        import resource

        @autocron.delay
        def give(kind):
            if kind == "str":
                return "x" * (1 << 30)
            return {"nested": ["x" * (1 << 25)]}

        @autocron.delay
        def memory():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        """)
    way(
        """
        text = raised(autocron.NotStorable, tell, "x" * (1 << 30))
        assert "more than 1,073,741,824 bytes and the limit is 1,048,576" in text, text
        for kind in ("str", "nested"):
            r = give(kind)
            equal((r.get(30), r.status), (None, "done"))
            assert "bytes and the limit is 1,048,576: keep the data in a file" in r.reason, r.reason
        assert memory().get(10) < 1500, memory().get(10)  # the value itself, and no copy of it
        """,
        workers=1,
    )


def test_51_a_long_traceback_keeps_its_end_and_says_so(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def complain(word):
            raise ValueError(word * 10_000_000 + " the end")
        """)
    way("""
        for word in ("x", "ü"):
            r = complain(word)
            raised(autocron.JobFailed, r.get, 20)
            text = r.error_message
            assert 60_000 < len(text.encode()) <= 64 * 1024, len(text.encode())
            assert text.endswith(" the end"), text[-70:]
            assert " bytes, of which the last 65,536 are kept]" in text[:70], text[:70]
        """)


@pytest.mark.matrix
@pytest.mark.timeout(240)
def test_51_a_million_log_lines_keep_their_end_and_hold_up_nobody(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        import logging

        logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)

        @autocron.delay
        def talk():
            for number in range(1_000_000):
                logging.info("line %d", number)
        """)
    script = way(
        """
        r = talk()
        until(lambda: r.status == "running", 20)
        equal(add(1).get(20), 11)  # others get on meanwhile
        equal((r.status, r.get(180), r.attempt), ("running", None, 1))
        assert r.output.endswith("INFO line 999998\\nINFO line 999999\\n"), r.output[-70:]
        assert len(r.output) == 8192, len(r.output)
        """,
        wait=False,
    )
    script.succeed(timeout=200)


@pytest.mark.once
def test_57_a_gigabyte_of_prints_that_nobody_reads_stops_nothing(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def shout():
            line = "x" * 1023
            for _ in range(1 << 10):
                print("\\n".join([line] * (1 << 10)))
            print("the end")
        """)
    way("""
        read, write = os.pipe()  # whose other end nobody reads
        autocron.stop(20)
        os.dup2(write, 1)
        start()
        r = shout()
        until(lambda: r.status == "running", 20)
        equal(add(1).get(20), 11)  # others get on meanwhile
        equal((r.get(50), r.attempt), (None, 1))
        assert r.output.endswith("xxx\\nthe end\\n") and len(r.output) <= 8192
        """)
