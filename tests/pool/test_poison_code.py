"""Tasks whose code is not what it was, or that meddle with the pool: faults 33, 56, 80, 81 and 82."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import RunScript, wait_until
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

pytestmark = pytest.mark.once

TASK = """
    @autocron.delay
    def greet({arguments}):
        return "hello"
    """


def test_56_start_and_stop_do_nothing_in_a_task_and_say_so_once(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def meddle():
            return autocron.start("other.db"), autocron.leave(), autocron.stop()
        """)
    script = way(
        """
        for _ in range(3):
            equal(meddle().get(10), (False, None, True))
        """,
        workers=1,
    )
    for call in ("start", "leave", "stop"):
        assert script.stderr.count(f"autocron.{call}() does nothing in a task: ") == 1, script.stderr


def test_80_jobs_of_a_module_that_is_missing_wait_for_the_next_deploy(
    way: Way, with_tasks: WithTasks, tmp_path: Path
) -> None:
    with_tasks(TASK.format(arguments="name"))
    way("greet.options(seconds=0.1).enqueue('eve'); autocron.stop(0)")
    (tmp_path / "more.py").rename(tmp_path / "gone.py")
    way("""
        (job,) = autocron.get_results()
        until(lambda: job.reason == "unknown task", 20)
        equal(job.status, "waiting")
        """)
    (tmp_path / "gone.py").rename(tmp_path / "more.py")
    way("equal(autocron.get_results()[0].get(20), 'hello')")


def test_80_a_module_that_fails_in_a_worker_is_named_with_its_traceback(
    way: Way, with_tasks: WithTasks, tmp_path: Path
) -> None:
    with_tasks("""
        if autocron.in_worker() and not os.path.exists("mended"):
            import there_is_no_such_module

        @autocron.delay
        def greet(name):
            return "hello"
        """)
    script = way("r = greet('eve'); equal((r.get(40), r.attempt), ('hello', 1))", wait=False)
    for words in (
        "a worker cannot start: more cannot be imported",
        "No module named 'there_is_no_such_module'",
    ):
        wait_until(lambda words=words: words in script.stderr, 20, words)
    (tmp_path / "mended").touch()
    script.succeed()


def test_81_jobs_of_a_function_with_another_name_wait_until_it_says_its_old_one(
    way: Way, with_tasks: WithTasks, tmp_path: Path
) -> None:
    with_tasks(TASK.format(arguments="name"))
    way("greet.options(seconds=0.1).enqueue('eve'); autocron.stop(0)")
    with_tasks("""
        @autocron.delay
        def welcome(name):
            return "welcome"
        """)
    script = way(
        """
        job = autocron.get_results()[0]
        until(lambda: os.path.exists("seen"), 30)
        equal((job.status, job.reason), ("waiting", "unknown task"))
        """,
        wait=False,
    )
    advice = "put `name='more.greet'` into the brackets of its decorator"
    wait_until(lambda: advice in script.stderr, 20, script.stderr)
    (tmp_path / "seen").touch()
    script.succeed()
    with_tasks("""
        @autocron.delay(name="more.greet")
        def welcome(name):
            return "welcome"
        """)
    way("equal(autocron.get_results()[0].get(20), 'welcome')")


def test_82_arguments_that_no_longer_fit_are_named(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASK.format(arguments="name, text"))
    way("greet.options(seconds=0.2).enqueue('eve', text='hi'); autocron.stop(0)")
    with_tasks(TASK.format(arguments="name, language"))
    way("""
        (r,) = autocron.get_results()
        text = raised(autocron.JobFailed, r.get, 20)
        assert "TypeError: greet() got an unexpected keyword argument 'text'" in text, text
        assert "The job was stored with the arguments (#1, text), by another version of the code" in text
        assert "greet takes (name, language) now." in text, text
        """)


def test_82_a_type_error_of_the_task_itself_is_no_misfit(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def greet(name):
            len(1)

        @autocron.delay
        def other():
            greet.call()
        """)
    way("""
        for r in (greet("eve"), other()):
            assert "by another version" not in raised(autocron.JobFailed, r.get, 10)
        """)


def test_33_two_applications_do_not_share_a_database(run_script: RunScript, tmp_path: Path) -> None:
    for name in ("shop", "blog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(
            "import autocron_web as autocron\nautocron.start('one.db', strict=True)\nautocron.stop(20)\n"
        )
    run_script(tmp_path / "shop" / "shop.py")
    script = run_script(tmp_path / "blog" / "blog.py", wait=False)
    assert script.wait() != 0
    assert "WrongApplication" in script.stderr
    assert "'shop'" in script.stderr
    assert "'blog'" in script.stderr
