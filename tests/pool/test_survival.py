"""The monitor survives what tasks and app processes say to it, and a bystander's job runs once."""

from __future__ import annotations

from pathlib import Path

import pytest

from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until
from pool_app import App, app, wait_for_pool  # noqa: F401
from pool_way import Way, WithTasks, store, way, with_tasks  # noqa: F401

pytestmark = pytest.mark.timeout(120)

ODD_QUESTIONS = """
    ODD = (
        dict(limit=-1), dict(limit="many"), dict(limit=True), dict(limit=5.0), dict(limit=None),
        dict(task=os.fsdecode(b"caf\\xe9")), dict(task=["shop.add"]), dict(task=add),
        dict(task=7), dict(state="\\ud800"), dict(state="ready"), dict(state=["done"]), dict(state=1),
    )

    def ask_oddly():
        '''What comes of each question.'''
        found = []
        for query in ODD:
            try:
                found.append(len(autocron.get_results(**query)))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        for seconds in (float("nan"), "5", b"5", [], True, 10**400):
            try:
                add.options(hours=1).enqueue(1).get(timeout=seconds)
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}"[:60])
        return found

    def ask_much():
        return [len(autocron.get_results(limit=limit)) for limit in (2**63 - 1, 2**63, 10**20, 10**400)]

    @autocron.delay
    def odd():
        return ask_oddly()

    @autocron.delay
    def much():
        return len(set(ask_much()))

    @autocron.delay
    def beside(n):
        raised(autocron.ConfigError, autocron.progress, "a")
        raised(autocron.ConfigError, autocron.progress, 1, float("nan"))
        raised(UnicodeEncodeError, autocron._engine.client.enqueue, [add_job(task="\\ud800")])
        autocron.progress(n, 10**30, "\\ud800\\0")
        return n

    def add_job(**fields):
        from autocron_web.options import Options
        return registered.job(Options(), (1,), {})._replace(**fields)

    registered = add
"""


def test_a_task_and_the_app_hear_the_same_of_an_odd_question(
    way: Way, with_tasks: WithTasks, store: SqliteStore
) -> None:
    with_tasks(ODD_QUESTIONS)
    way("""
        bystander = hold("bystander")
        until(lambda: noted("begin bystander"))
        here = ask_oddly()
        assert all(type(text) is str and text.startswith("ConfigError") for text in here), here
        equal(odd().get(20), here)
        equal(len(set(ask_much())), 1)
        equal(much().get(20), 1)
        release("bystander")
        equal(bystander.get(20), "bystander")
        equal(bystander.attempt, 1)
        """)
    assert [job.attempt for job in store.jobs(task="shop.hold")] == [1]
    assert store.newest_epoch("local") == 1


def test_what_fails_in_the_store_fails_in_the_task(
    way: Way, with_tasks: WithTasks, store: SqliteStore
) -> None:
    """Where nothing looks at the value before."""
    with_tasks("""
        def client():
            from autocron_web.engine import engine
            return engine.client

        def job(**fields):
            from autocron_web.options import Options
            return add.job(Options(), (1,), {})._replace(**fields)

        WRONG = (
            dict(task="\\ud800"), dict(due=2**63), dict(due=10**400), dict(priority=None), dict(meta=[]),
            dict(state="running", epoch=1), dict(queue=7), dict(attempt=-7),
        )

        @autocron.delay
        def wrong():
            found = 0
            for fields in WRONG:
                try:
                    client().enqueue([job(**fields)])
                except Exception:
                    found += 1
            for call in (
                lambda: client().get("\\ud800"), lambda: client().get(7), lambda: client().cancel([], "x"),
                lambda: client().jobs(10**400, None, None), lambda: client().jobs(5, [], None),
                lambda: client().cancel("x", "\\ud800"),
            ):
                try:
                    call()
                except Exception:
                    found += 1
            autocron.progress(1, None, "fine")
            return found, add(2).get(10)
        """)
    way(
        """
        bystander = hold("bystander")
        until(lambda: noted("begin bystander"))
        equal(wrong().get(20), (8 + 6, 12))
        release("bystander")
        equal((bystander.get(20), bystander.attempt), ("bystander", 1))
        """,
        workers=3,
    )
    assert store.newest_epoch("local") == 1


def test_large_pages_come_whole_and_the_store_is_free_meanwhile(
    way: Way, with_tasks: WithTasks, store: SqliteStore
) -> None:
    with_tasks("""
        @autocron.delay
        def read(limit):
            results = autocron.get_results(limit=limit, task="shop.add")
            return len(results), len({result.id for result in results})
        """)
    way("""
        add.options(hours=1).enqueue_many([(i,) for i in range(5000)])
        for limit in (0, 1, 9, 10, 11, 437, 1000, 4999, 5000, 5001, 10**20):
            equal(read(limit).get(20), (min(limit, 5000),) * 2)
        """)


def test_no_wait_is_too_long(way: Way) -> None:
    way("""
        for seconds in (2**31 / 1000 + 1, 1e9, 1e12, float("inf"), 10**300):
            equal(add(1).get(timeout=seconds), 11)
        for seconds in (0, -1, -1e300):
            raised(autocron.ResultTimeout, add.options(hours=1).enqueue(1).get, seconds)
        for word in (float("nan"), True, "5", [1]):
            assert "give a number" in raised(autocron.ConfigError, autocron.stop, word)
        slow = hold.options(timeout=9.9e9).enqueue("slow")
        until(lambda: noted("begin slow"))
        release("slow")
        equal((slow.get(1e8), slow.attempt), ("slow", 1))
        equal(autocron.stop(1e12), True)
        """)


FUZZ = r'''
    import random, socket
    from autocron_web.pool.wire import Frame, Kind, encode

    VALUES = (
        None, True, 0, -1, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "id", "\ud800", "a\0b",
        "x" * 5000, [], [None], [[]], [1, None, "a"], {}, {"a": None}, {"a": {"b": [1]}},
    )
    KEYS = """
        request id jobs limit before state task reason note patience by tasks concurrency crons reports
        modules files stops main trouble ok codec seconds error error_type output spent unknown reporting due
        over version born workers limits load pid unfit""".split()

    def frame(dice, kind):
        head = {key: dice.choice(VALUES) for key in dice.sample(KEYS, dice.randrange(8))}
        if kind == Kind.ASK and dice.random() < 0.9:
            head["request"] = dice.choice(["progress", "enqueue", "get", "jobs", "cancel"])
        return encode(Frame(kind, dice.randrange(5), head, dice.randbytes(dice.randrange(50))))

    def line():
        from autocron_web.engine import engine
        return engine.client._line()

    @autocron.delay
    def ask(seed, number):
        """Wrong questions: each is answered, nearly all with an error, and the task goes on."""
        dice, answered = random.Random(seed), 0
        for _ in range(number):
            head = {key: dice.choice(VALUES) for key in dice.sample(KEYS, dice.randrange(8))}
            head["request"] = dice.choice(["enqueue", "get", "jobs", "cancel", "else"])
            try:
                line().ask(head, dice.randbytes(9))
            except Exception as error:
                assert "pool of this process has ended" not in str(error)
            answered += 1
        return answered

    @autocron.delay
    def babble(seed):
        """One wrong frame of each kind that a worker or anybody may send: it may cost this worker."""
        dice = random.Random(seed)
        kinds = [Kind.READY, Kind.RESULT, Kind.FREE, Kind.HELLO, Kind.RUN, Kind.POKE, 99, 255]
        line().sock.sendall(b"".join(frame(dice, kind) for kind in dice.sample(kinds, 3)))

    @autocron.delay
    def garble(seed):
        line().sock.sendall(random.Random(seed).randbytes(100))

    @autocron.delay
    def fork(seed, number):
        """The same to the monitor's socket, from a process of the task's own."""
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return
        dice = random.Random(seed)
        for _ in range(number):
            kind = dice.choice([*range(1, 12), 12, 14, *range(20, 29), 99])
            if kind != Kind.LEAVE:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(line_path())
                sock.sendall(frame(dice, kind))
                sock.close()
        os._exit(0)

    def line_path():
        from autocron_web.engine import engine
        return engine.client.database + ".sock"
'''


def test_no_frame_of_a_task_ends_the_monitor(
    way: Way, with_tasks: WithTasks, store: SqliteStore, home: Path
) -> None:
    with_tasks(FUZZ)
    script = way(
        """
        bystander = hold("bystander")
        until(lambda: noted("begin bystander"))
        first = time.time_ns()
        print("seed", first, flush=True)
        results = [ask(first, 300), fork(first + 1, 200), ask(first + 2, 300)]
        equal([result.get(30) for result in results], [300, None, 300])
        for seed in range(first, first + 8):
            (babble if seed % 3 else garble).options(priority=-1).enqueue(seed)
        count = lambda state: len(autocron.get_results(state=state))
        until(lambda: not count("waiting") and count("running") < 2, 60)
        release("bystander")
        equal((bystander.get(30), bystander.attempt), ("bystander", 1))
        """,
        workers=3,
    )
    assert store.newest_epoch("local") == 1, script.stdout  # no other monitor has begun
    assert "Traceback" not in script.stderr, script.stderr


# -- the socket, and deaths in a row ----------------------------------------------------------------------


def test_a_socket_that_was_deleted_is_made_again(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    pool = wait_for_pool()
    (home / "faults.db.sock").unlink()
    wait_until((home / "faults.db.sock").is_socket, 20, "another socket")
    assert (home / "faults.db.sock").stat().st_mode & 0o777 == 0o600
    app.run("tell:b")  # a newcomer
    app.wait_for("tell b")
    assert wait_for_pool() == pool


def test_what_else_lies_in_the_place_of_the_socket_is_left_alone(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    pool = wait_for_pool()
    path = home / "faults.db.sock"
    path.unlink()
    path.write_text("mine")
    app.run("tell:b")
    app.wait_for("tell b")
    assert path.read_text() == "mine"
    path.unlink()
    wait_until(path.is_socket, 20, "another socket")
    assert wait_for_pool() == pool
