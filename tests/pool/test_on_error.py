"""`on_error`: the app's functions are told of each job that has failed for good, however that was."""

from __future__ import annotations

from pathlib import Path

import pytest

import autocron_web as autocron
from autocron_web import reports
from autocron_web.client import InlineClient
from autocron_web.engine import engine
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

TASKS = """
    import traceback

    @autocron.on_error
    def tell(job, error):
        lines = traceback.format_exception(error)
        note("told", job.task, job.attempt, type(error).__name__, job.error_type, len(lines) > 1, os.getpid())
        assert str(error).splitlines()[-1] in job.error or "failed: " + job.error in str(error), (job, error)
        assert job.created < datetime.datetime.now(datetime.UTC)

    @autocron.delay(retries=1, backoff=0)
    def stumble(word):
        note("run", word)
        raise LookupError(word)

    @autocron.delay(timeout=0.3)
    def sleep():
        time.sleep(300)

    @autocron.delay
    def crash():
        os._exit(1)
    """


def test_it_is_called_once_after_the_last_try_with_the_exception(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way(
        """
        r = stumble("x")
        raised(autocron.JobFailed, r.get, 20)
        until(lambda: noted("told"))
        equal(add(1).get(10), 11)
        equal((noted("run"), len(noted("told"))), (["run x"] * 2, 1))
        equal(noted("told")[0].split()[1:6], ["more.stumble", "2", "LookupError", "LookupError", "True"])
        """,
        workers=1,
    )


@pytest.mark.once
def test_another_worker_tells_of_a_crash_and_of_a_timeout(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way("""
        for r in (sleep(), crash()):
            raised(autocron.JobFailed, r.get, 30)
        until(lambda: len(noted("told")) == 2, 20)
        equal(sorted(" ".join(line.split()[1:6]) for line in noted("told")), [
            "more.crash 3 JobFailed WorkerCrashed False",
            "more.sleep 1 TimeoutError TimeoutError False",
        ])
        """)


def test_another_worker_tells_if_the_first_one_is_killed_while_it_does(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks("""
        @autocron.on_error
        def tell(job, error):
            note("begins", type(error).__name__)
            if len(noted("begins")) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            note("told", job.task, job.attempt)
        """)
    way("""
        r = fail("x")
        until(lambda: noted("told"), 20)
        equal(add(1).get(20), 11)
        equal(noted("begins"), ["begins ValueError", "begins JobFailed"])
        equal(noted("told"), ["told shop.fail 1"])
        equal((r.attempt, r.has_error), (1, True))
        """)


@pytest.mark.parametrize("finishes", [True, False])
def test_it_is_called_once_where_the_pool_ends_meanwhile(
    way: Way, with_tasks: WithTasks, finishes: bool
) -> None:
    with_tasks("""
        @autocron.on_error
        def tell(job, error):
            note("begins")
            until(lambda: os.path.exists("go"), 60)
            note("told")
        """)
    way(f"""
        fail("x")
        until(lambda: noted("begins"), 20)
        if {finishes}:
            threading.Timer(0.3, Path("go").touch).start()  # while the pool is ending
        """)
    way("""
        Path("go").touch()
        until(lambda: noted("told"), 20)
        equal(add(1).get(20), 11)
        equal(noted("told"), ["told"])
        """)


def test_what_a_report_does_changes_nothing_of_the_job(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.on_error
        def poison(job, error):
            os.chdir("/")
            if job.task == "more.raising":
                raise RuntimeError("in the report")
            if job.task == "more.leaving":
                sys.exit(1)
            os._exit(1)

        @autocron.on_error
        def second(job, error):
            os.write(2, b"the second is called too\\n")

        @autocron.delay
        def raising(): 1 / 0

        @autocron.delay
        def leaving(): 1 / 0

        @autocron.delay
        def dying(): 1 / 0

        @autocron.delay
        def where():
            return os.getcwd()
        """)
    script = way(
        """
        folder = where().get(10)
        for r in (raising(), leaving(), dying()):
            assert "ZeroDivisionError" in raised(autocron.JobFailed, r.get, 10)
            equal(r.attempt, 1)
            equal(where().get(20), folder)
        """,
        workers=1,
    )
    assert "the report of more.raising by poison failed\n" in script.stderr, script.stderr
    assert "RuntimeError: in the report" in script.stderr
    assert script.stderr.count("the second is called too") == 2


def test_it_can_stand_in_a_module_without_tasks(way: Way, with_tasks: WithTasks, tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text(
        "import autocron_web as autocron\n"
        "autocron.on_error(lambda job, error: open('told', 'a').write(job.task + '\\n'))\n"
    )
    way("""
        import errors
        raised(autocron.JobFailed, fail("x").get, 20)
        until(lambda: os.path.exists("told"))
        """)


def test_inline_it_is_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, BaseException]] = []
    monkeypatch.setattr(reports, "_reports", [])
    monkeypatch.setattr(reports, "modules", set())
    monkeypatch.setattr(engine, "_client", InlineClient())
    autocron.on_error(lambda job, error: told.append((job.task, error)))

    @autocron.delay(name="shop.divide")
    def divide() -> None:
        raise ZeroDivisionError

    divide()
    assert [(task, type(error)) for task, error in told] == [("shop.divide", ZeroDivisionError)]
