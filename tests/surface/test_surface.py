"""What an application of autocron 1.x has in its code, verbatim, works: "What stays" of docs/migration.md."""

from __future__ import annotations

import datetime as dt
import inspect
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web import decorators, tasks
from autocron_web.client import InlineClient, StoreClient
from autocron_web.crontab import Crontab
from autocron_web.store.sqlite import SqliteStore
from autocron_web.testing import Recording, recording
from conftest import RunScript, pool_processes, wait_until
from contract import Contract
from pool_app import wait_for_pool

contract = Contract("migration.md")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for table in (tasks.registry, decorators.crons):
        for name in list(table):
            monkeypatch.delitem(table, name)
    yield
    tasks.registry.clear()
    decorators.crons.clear()


@pytest.fixture
def kit() -> Iterator[Recording]:
    with recording() as kit:
        yield kit


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[autocron.Engine]:
    """An engine of this test's own, as at the beginning of a program."""
    engine = autocron.Engine()
    monkeypatch.setattr(sys.modules["autocron_web.engine"], "engine", engine)
    yield engine
    store = getattr(engine._client, "_store", None)
    if store is not None:
        store.close()


# -- start, stop, Engine, Result: a whole application -------------------------------------------------

APPLICATION = """
import sys, time
import autocron_web as autocron

@autocron.delay
def do_this_later(number):
    return number + 1

@autocron.delay
def fail():
    raise ValueError("something went wrong")

@autocron.cron("30 9 0,2 * *")
def send_newsletter():
    ...

def show(task_result):
    while not task_result.is_ready():
        time.sleep(0.01)
    if task_result.has_error:
        print("error:", task_result.error_message.splitlines()[-1])
    else:
        print("result:", task_result.result, task_result.function_result)

if __name__ == "__main__":
    START
    task_result = do_this_later(41)
    print(len(task_result.uuid) > 30, sorted({task_result.is_waiting, task_result.is_waiting()}) != [])
    show(task_result)
    show(fail())
    print([r.uuid == task_result.uuid for r in autocron.get_results()], len(autocron.get_results(1)))
    STOP
"""

OUTPUT = """\
True True
result: 42 42
error: ValueError: something went wrong
[False, True] 1
"""


@pytest.mark.once
@contract.holds(
    "`start(database_file, workers=None)` returns whether this call has started the workers, and may be "
    "called again.",
    "A relative name of the database lies in `~/.autocron`.",
    "A call of a task returns a `Result` with `uuid`, `is_ready`, `is_waiting`, `has_error`, "
    "`error_message`, `result` and `function_result`.",
    "`is_ready` says that the task has ended, with a result or with an error.",
    "`get_results()` lists the results, newest first and at most 100; `get_results(limit)` more of them.",
    "`stop()` may be called, and need not be.",
    "Tasks may be defined in the main module, as in `python application.py`.",
)
@pytest.mark.parametrize("stop", ["autocron.stop()", "pass"])
def test_an_application(run_script: RunScript, tmp_path: Path, home: Path, stop: str) -> None:
    start = 'print(autocron.start("the_app.db"), autocron.start(database_file="the_app.db", workers=None))'
    source = APPLICATION.replace("START", start).replace("STOP", stop)
    folder = tmp_path / "home"
    folder.mkdir()
    environment = {"AUTOCRON_HOME": "", "HOME": str(folder)}
    assert run_script(source, env=environment).stdout == "True False\n" + OUTPUT
    assert (folder / ".autocron" / "the_app.db").exists()
    wait_until(lambda: not pool_processes(), 15, "the end of the pool")


@contract.holds(
    "`Engine()` can be made, and its `start()` and `stop()` are those of `autocron.start` and "
    "`autocron.stop`.",
    "`autocron.stop()` waits until the workers are gone.",
)
def test_an_engine_of_the_applications_own(run_script: RunScript) -> None:
    start = (
        "engine = autocron.Engine(); "
        'print(engine.start("the_app.db", workers=1), autocron.start("the_app.db"))'
    )
    source = APPLICATION.replace("START", start).replace("STOP", "print(engine.stop(), autocron.stop())")
    assert run_script(source).stdout == "True False\n" + OUTPUT + "True True\n"
    assert pool_processes() == {}


@pytest.mark.once
@contract.holds("Without `workers` their number is what `--set-max-workers` has set, else 2.")
def test_the_number_of_workers(run_script: RunScript, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "application.py"
    source = APPLICATION.replace("START", 'autocron.start("the_app.db")')
    file.write_text("import signal\n" + source.replace("STOP", "print('ready', flush=True); signal.pause()"))
    store = SqliteStore(home / "the_app.db")
    for number in ("3", None):
        store.set_setting("max_workers", number)
        script = run_script(file, wait=False)
        script.wait_for("ready")
        wait_for_pool(workers=int(number or 2))
        script.kill()
        wait_until(lambda: not pool_processes(), 20, "the end of the pool")
    store.close()


def test_modules_that_1_has_too() -> None:
    import autocron_web.decorators
    import autocron_web.engine

    assert autocron_web.engine.Engine is autocron.Engine
    assert (autocron_web.decorators.cron, autocron_web.decorators.delay) == (autocron.cron, autocron.delay)


def test_the_signatures() -> None:
    names = [*inspect.signature(autocron.start).parameters]
    assert names[:2] == ["database_file", "workers"]
    assert inspect.signature(autocron.start).parameters["workers"].default is None
    assert [*inspect.signature(autocron.cron).parameters][:6] == [
        "crontab", "minutes", "hours", "days", "months", "days_of_week",
    ]  # fmt: skip
    assert all(
        parameter.default is not inspect.Parameter.empty
        for parameter in [
            *inspect.signature(autocron.stop).parameters.values(),
            *inspect.signature(autocron.get_results).parameters.values(),
        ]
    )


# -- delay ----------------------------------------------------------------------------------------------


@contract.holds(
    "`@delay`, `@delay()` and `@delay(minutes=5)` with `weeks`, `days`, `hours`, `minutes` and `schedule`."
)
def test_delay_with_and_without_arguments(kit: Recording) -> None:
    @autocron.delay
    def bare(recipient: str, message: str) -> str:
        return recipient + message

    @autocron.delay()
    def empty(recipient: str, message: str) -> str:
        return recipient + message

    @autocron.delay(weeks=1, days=2, hours=3, minutes=4)
    def late(recipient: str, message: str) -> str:
        return recipient + message

    for task, seconds in ((bare, 0), (empty, 0), (late, 7 * 86400 + 2 * 86400 + 3 * 3600 + 4 * 60)):
        result = task("a", message="b")
        assert isinstance(result, autocron.Result)
        assert kit.enqueued(task)[0].due == kit.now + dt.timedelta(seconds=seconds)
    assert [r.result for r in kit.drain()] == ["ab", "ab"]
    assert [r.result for r in kit.travel(days=10)] == ["ab"]


@contract.holds(
    "With `schedule` the other times do not count; a naive datetime is local time, and one in the past "
    "is now.",
)
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_schedule(kit: Recording, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        naive = dt.datetime.now() + dt.timedelta(hours=1)  # noqa: DTZ005 - as 1.x has it
        aware = dt.datetime.now(dt.timezone(dt.timedelta(hours=-9))) + dt.timedelta(hours=2)
        past = dt.datetime(2001, 1, 1)  # noqa: DTZ001 - as above

        def work() -> None: ...

        for schedule, due in (
            (naive, naive.astimezone(dt.UTC)),
            (aware, aware.astimezone(dt.UTC)),
            (past, kit.now),
        ):
            task = autocron.delay(schedule=schedule, minutes=5)(work)
            task()
            assert kit.enqueued(task)[-1].due == due
        assert naive.astimezone().tzname() in ("JST", "EST", "EDT")
        assert len(kit.drain()) == 1
    finally:
        monkeypatch.undo()
        time.tzset()


# -- cron -----------------------------------------------------------------------------------------------


def schedule_of(function: object) -> str:
    [cron] = [cron for cron in decorators.crons.values() if tasks.registry[cron.task].function is function]
    assert isinstance(cron.schedule, Crontab)
    return cron.schedule.canonical


@contract.holds(
    "`@cron` with a crontab, with the fields as keywords, or with nothing: then it runs every minute.",
    "`dow` and `dom` are other words for `days_of_week` and `days`.",
    "The function below `@cron` stays as it is.",
)
def test_cron_in_all_its_forms() -> None:
    def named(name: str) -> Any:
        def send_newsletter() -> str:
            return name

        send_newsletter.__qualname__ = name
        return send_newsletter

    forms: dict[str, Any] = {
        "crontab": autocron.cron("30 9 0,2 * *"),
        "keyword": autocron.cron(crontab="30 9 0,2 * *"),
        "dow": autocron.cron(minutes=[30], hours=[9], dow=[0, 2]),
        "days_of_week": autocron.cron(minutes=[30], hours=[9], days_of_week=[0, 2]),
        "positions": autocron.cron(None, [30], [9], None, None, [0, 2]),
    }
    for name, decorate in forms.items():
        function = named(name)
        assert decorate(function) is function
        assert function() == name
        assert schedule_of(function) == "30 9 * * mon,wed"
    for name, decorate in {"bare": autocron.cron, "empty": autocron.cron()}.items():
        function = named(name)
        assert decorate(function) is function
        assert schedule_of(function) == "* * * * *"
    monthly = autocron.cron(minutes=[0], hours=[0], dom=[1], months=[4, 7])(named("dom"))
    assert schedule_of(monthly) == "0 0 1 4,7 *"


# -- inactive ---------------------------------------------------------------------------------------------


@contract.holds(
    "While the setting `autocron_lock` is `on` or `true`, in small or capital letters, nothing starts "
    "and a call runs at once in the caller.",
)
@pytest.mark.parametrize("value", ["on", "On", "ON", "true", "True", "TRUE"])
def test_inactive(value: str, engine: autocron.Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["application.py"])  # a program that serves
    store = SqliteStore(home / "the_app.db")
    store.set_setting("autocron_lock", value)
    calls = []

    @autocron.delay(minutes=5, retries=3)
    def do_this_later(word: str) -> str:
        calls.append(word)
        return word.upper()

    assert engine.start("the_app.db", workers=2) is False
    task_result = do_this_later("a")
    assert calls == ["a"]
    assert (task_result.is_ready(), task_result.is_waiting(), task_result.has_error) == (True, False, False)
    assert (task_result.result, task_result.function_result, task_result.get()) == ("A", "A", "A")
    assert store.counts() == {}
    assert engine.stop() is True
    assert pool_processes() == {}
    store.close()


@pytest.mark.parametrize("value", ["off", "OFF", "false", "False", None, ""])
def test_not_inactive(value: str | None, engine: autocron.Engine, home: Path) -> None:
    store = SqliteStore(home / "the_app.db")
    store.set_setting("autocron_lock", value)
    store.close()
    assert engine.start("the_app.db") is False  # because this is pytest
    assert isinstance(engine.client, StoreClient)
    assert not isinstance(engine.client, InlineClient)


def test_an_error_while_inactive(engine: autocron.Engine, home: Path) -> None:
    store = SqliteStore(home / "the_app.db")
    store.set_setting("autocron_lock", "on")
    store.close()
    engine.start("the_app.db")

    @autocron.delay
    def fail() -> None:
        raise ValueError("no")

    r = fail()
    assert (r.is_ready, r.has_error, r.result) == (True, True, None)
    assert (r.error_message or "").endswith("ValueError: no")
