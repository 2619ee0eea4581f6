"""What an app process has told goes with it: its environment, its paths, its modules."""

from __future__ import annotations

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

#: `beside` runs another app process, until the body of its `with` has ended.
TASKS = '''
    import contextlib, textwrap

    JOIN = "from more import *\\nstart()\\nstay('NAME')"

    MODULE = "from shop import *\\n@autocron.delay\\ndef NAME(): return 'NAME'\\n"

    PROGRAM = """if True:
        from more import *

        @autocron.delay
        def job():
            return __name__

        if __name__ == "__main__":
            start()
            stay("NAME", lambda: note("NAME got", job().get(30)))
    """

    @autocron.delay
    def secret():
        return os.environ.get("SHOP_SECRET")

    def stay(name, work=lambda: time.sleep(0.01)):
        note(f"{name} is up")
        while not os.path.exists(f"enough-{name}"):
            work()

    @contextlib.contextmanager
    def beside(name, code, **env):
        Path(f"{name}.py").write_text(code.replace("NAME", name))
        environment = {key: value for key, value in {**os.environ, **env}.items() if value is not None}
        process = subprocess.Popen([sys.executable, f"{name}.py"], env=environment)
        try:
            until(lambda: noted(f"{name} is up") or process.poll() is not None, 60)
            yield process
        finally:
            Path(f"enough-{name}").touch()
            assert process.wait(60) in (0, -signal.SIGKILL)

    def answers(name):
        seen = len(noted(f"{name} got"))
        until(lambda: len(noted(f"{name} got")) > seen + 1, 30)

    def settled(number=2):
        from autocron_web.launch import ask_monitor

        def ready():
            told = ask_monitor(os.path.join(os.environ["AUTOCRON_HOME"], "shop.db"), 20)
            return {worker["pid"] for worker in told["workers"] if worker["state"] == "ready"}

        until(lambda: len(ready()) == number, 30)
        return ready()

    def lose_workers():
        for pid in settled():
            os.kill(pid, signal.SIGKILL)
    '''


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_environment_of_a_script_rules_no_longer_than_it_lives(
    way: Way, with_tasks: WithTasks, preload: str
) -> None:
    with_tasks(TASKS)
    way(
        """
        equal(secret().get(30), "s3cret")
        with beside("nightly", JOIN, SHOP_SECRET=None):
            equal(secret().get(30), None)
        equal(secret().get(30), "s3cret")
        equal({secret().get(30) for _ in range(10)}, {"s3cret"})
        """,
        env={"SHOP_SECRET": "s3cret", "AUTOCRON_PRELOAD": preload},
    )


@pytest.mark.once
def test_the_environment_of_a_script_that_is_killed_rules_no_longer_either(
    way: Way, with_tasks: WithTasks
) -> None:
    with_tasks(TASKS)
    way(
        """
        with beside("nightly", JOIN, SHOP_SECRET=None) as nightly:
            equal(secret().get(30), None)
            nightly.kill()
        until(lambda: secret().get(30) == "s3cret", 30)
        """,
        env={"SHOP_SECRET": "s3cret"},
    )


@pytest.mark.once
def test_a_process_that_would_load_the_app_alike_costs_no_worker(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way("""
        before = settled()
        with beside("other", JOIN):
            equal(settled(), before)
        equal(add(1).get(20), 11)
        equal(settled(), before)
        """)


@pytest.mark.once
def test_modules_that_a_living_process_has_imported_are_known_to_workers_that_come_later(
    way: Way, with_tasks: WithTasks
) -> None:
    """Also while another process is the newest, and when a newer one joins."""
    with_tasks(TASKS)
    way("""
        Path("late_tasks.py").write_text(MODULE.replace("NAME", "late"))
        with beside("other", JOIN):
            import late_tasks
            equal(late_tasks.late().get(30), "late")
            lose_workers()
            equal(late_tasks.late().get(30), "late")
            with beside("newest", JOIN):
                lose_workers()
                equal(late_tasks.late().get(30), "late")
        """)


@pytest.mark.once
def test_two_programs_with_one_store_have_the_tasks_of_both(way: Way, with_tasks: WithTasks) -> None:
    """Each has some in its main module, which a worker of the other finds beside its own."""
    with_tasks(TASKS)
    way("""
        with beside("one", PROGRAM):
            answers("one")
            with beside("two", PROGRAM):
                answers("one")
                lose_workers()
                answers("one")
                answers("two")
            answers("one")
        equal({*noted("one got"), *noted("two got")}, {"one got one", "two got two"})
        """)


@pytest.mark.once
def test_tasks_that_the_newest_program_cannot_import_wait_for_its_end(
    way: Way, with_tasks: WithTasks
) -> None:
    """It has none of the other's paths. Its workers run all the same, and the log says why those wait."""
    with_tasks(TASKS)
    way("""
        Path("lib").mkdir()
        Path("lib/far_tasks.py").write_text(MODULE.replace("NAME", "far"))
        autocron.leave()
        sys.path.insert(0, os.path.abspath("lib"))
        import far_tasks
        start()
        equal(far_tasks.far().get(30), "far")
        with beside("newer", "import os\\nos.dup2(os.open('log', os.O_CREAT | os.O_WRONLY), 2)\\n" + JOIN):
            lose_workers()
            job = far_tasks.far()
            equal(add(1).get(30), 11)
            until(lambda: "its module is that of an older app process" in Path("log").read_text(), 30)
            equal((job.status, job.attempt, job.reason), ("waiting", 0, "unknown task"))
        equal(job.get(30), "far")
        """)


@pytest.mark.once
def test_the_number_of_workers_is_that_of_the_newest_that_lives(way: Way, with_tasks: WithTasks) -> None:
    with_tasks(TASKS)
    way("""
        before = settled()
        with beside("larger", JOIN.replace("start()", "start(3)")):
            assert before < settled(3)
        settled(2)
        equal(add(1).get(30), 11)
        """)
