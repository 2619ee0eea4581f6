"""What a job says on its way: progress and output."""

from __future__ import annotations

from collections.abc import Callable

from pool_way import Way, way, with_tasks  # noqa: F401


def test_progress_can_be_seen_while_the_task_runs(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def count(total):
            for i in range(total + 1):
                autocron.progress(i, total, f"row {i}")
            hold.call("a")
            autocron.progress(total + 1, None, "x" * 9_000_000)

        @autocron.delay
        def wrong():
            autocron.progress(object())
        """)
    way("""
        r = count(1000)
        equal(r.progress, None) if r.status == "waiting" else None
        until(lambda: r.progress and r.progress.done == 1000)
        equal(r.progress, (1000, 1000, "row 1000"))
        equal((r.progress.total, r.progress.note, r.status), (1000, "row 1000", "running"))
        release("a")
        r.get(10)
        equal(r.progress, (1001, None, "x" * 1000))
        raised(autocron.JobFailed, wrong().get, 10)
        equal(add(1).get(10), 11)
        """)


def test_output_is_kept_with_the_job_and_shown_by_the_app(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks("""
        print("what the module prints")

        @autocron.delay
        def talk(lines):
            print("first line")
            print("on stderr", file=sys.stderr)
            subprocess.run(["echo", "from a child"])
            os.write(1, b"\\xff raw\\n")
            for i in range(lines):
                print(f"line {i} " + "x" * 40)
            print("last line, unfinished", end="")

        @autocron.delay
        def silent():
            pass
        """)
    script = way(
        """
        r = talk(0)
        r.get(10)
        lines = {"first line", "from a child", "last line, unfinished", "on stderr"}
        equal(set(r.output.splitlines()), lines | {"\\N{REPLACEMENT CHARACTER} raw"})
        r = silent()
        r.get(10)
        equal(r.output, None)
        r = talk(1000)
        r.get(10)
        assert len(r.output.encode()) <= 8192, len(r.output)
        assert "first line" not in r.output and r.output.endswith("last line, unfinished"), r.output[-100:]
        """,
        workers=1,
    )
    assert script.stdout.count("first line") == 2
    assert "from a child" in script.stdout
    assert "line 999" in script.stdout
    assert script.stderr.count("on stderr") == 2


def test_what_a_worker_prints_while_it_loads_is_no_jobs_output(
    way: Way, with_tasks: Callable[[str], None]
) -> None:
    with_tasks('print("what the module prints")')
    script = way("""
        for _ in range(4):
            r = add(1)
            r.get(10)
            equal(r.output, None)
        """)
    assert "what the module prints" in script.stdout


def test_output_that_nobody_reads_stops_nothing(way: Way, with_tasks: Callable[[str], None]) -> None:
    with_tasks("""
        @autocron.delay
        def flood():
            for _ in range(2000):
                print("x" * 1000)
            return "through"
        """)
    way("""
        out, into = os.pipe()  # nobody reads it
        autocron.stop(10)
        saved = os.dup(1)
        os.dup2(into, 1)
        start()
        os.dup2(saved, 1)
        equal(flood().get(20), "through")
        """)
