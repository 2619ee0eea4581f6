"""What cannot work is refused at once, in the caller, in a sentence: what happened, with what, what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web import tasks
from autocron_web.engine import Engine
from autocron_web.errors import AutocronError
from autocron_web.store.sqlite import SqliteStore
from conftest import CHECKOUT, RunScript, pool_processes

FAIL_AT_START = "background tasks are off: "


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Engine]:
    """An engine of this test's own, in this process, in which pytest keeps a pool from being started."""
    engine = Engine()
    monkeypatch.setattr(sys.modules["autocron_web.engine"], "engine", engine)
    monkeypatch.setattr(tasks, "registry", {})
    yield engine
    store = getattr(engine._client, "_store", None)
    if store is not None:
        store.close()


@pytest.fixture
def started(engine: Engine) -> Engine:
    assert engine.start("shop.db", app_id="shop") is False
    return engine


def task(function: Callable[..., Any]) -> tasks.Task[..., Any]:
    return autocron.delay(function)


def says(function: Callable[..., object], *arguments: Any, kind: type[Exception], **keywords: Any) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(kind) as refused:
        function(*arguments, **keywords)
    text = str(refused.value)
    assert "\n" not in text
    return text


def one(address: str, *, copies: int = 1) -> None: ...


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        (
            (object(),),
            {},
            "argument 'address' (object) cannot be stored: pass the values that the task needs of it",
        ),
        (
            (lambda: 1,),
            {},
            "argument 'address' (function) cannot be stored: pass the values that it works on",
        ),
        (
            ("a",),
            {"copies": [1, {"x": sys.stdout.__class__}]},
            "argument 'copies'[1]['x'] (type) cannot be stored: ",
        ),
        ((iter(()),), {}, "argument 'address' (tuple_iterator) cannot be stored: pass list(address)"),
        (
            ("x" * 2_000_000,),
            {},
            "the arguments take more than 2,000,000 bytes and the limit is 1,048,576: keep the data in",
        ),
    ],
)
def test_52_an_argument_that_cannot_be_stored(
    started: Engine, arguments: tuple[Any, ...], keywords: dict[str, Any], sentence: str
) -> None:
    send = task(one)
    assert says(send, *arguments, **keywords, kind=autocron.NotStorable).startswith(sentence)
    assert says(send.enqueue_many, [("ok",), keywords or arguments], kind=TypeError)
    assert says(send.options(minutes=5).enqueue, *arguments, **keywords, kind=autocron.NotStorable)
    assert started.get_results() == []


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        ((), {}, "missing a required argument: 'address'"),
        (("a", "b"), {}, "too many positional arguments"),
        (("a",), {"copy": 1}, "got an unexpected keyword argument 'copy'"),
        (("a",), {"address": "b"}, "multiple values for argument 'address'"),
    ],
)
def test_a_call_with_wrong_arguments_is_a_type_error_in_the_caller(
    started: Engine, arguments: tuple[Any, ...], keywords: dict[str, Any], sentence: str
) -> None:
    send = task(one)
    assert says(send, *arguments, **keywords, kind=TypeError) == sentence
    assert started.get_results() == []


def test_a_list_of_calls_with_something_else_in_it(started: Engine) -> None:
    send = task(one)
    text = says(send.enqueue_many, [("ok",), "a@b.c"], kind=TypeError)
    assert text.startswith("'a@b.c' is no call of test_bad_input.one: give a tuple of arguments or a dict of")
    assert started.get_results() == []


# -- tasks -----------------------------------------------------------------------------------------


def test_55_and_83_functions_that_no_worker_could_find_or_run(engine: Engine) -> None:
    def generate() -> Iterator[int]:
        yield 1

    kind = autocron.TaskDefinitionError
    assert re.fullmatch(
        r"<function .*<lambda> at 0x\w+> cannot be a task: a worker could not find it by a name\."
        r" Write it as a function with `def`",
        says(task, lambda: 1, kind=kind),
    )
    assert says(task, "send", kind=kind) == "'send' cannot be a task: only a function can"  # type: ignore[arg-type]
    assert says(task, generate, kind=kind).endswith(
        "cannot be a task: it is a generator, of which a call runs nothing."
        " Let the function do its work, and return a list"
    )
    assert tasks.registry == {}


@pytest.mark.parametrize("how", ["-", "-c", "-i"])
def test_83_what_is_typed_in_an_interactive_session(how: str, home: Path) -> None:
    source = """
import autocron_web as autocron
try:
    @autocron.delay
    def greet(): pass
except autocron.TaskDefinitionError as error:
    print(error)

import module
print(module.task.name)
print(autocron.start("shop.db", app_id="shop"))
print(module.task().status in ("waiting", "running"))
print(autocron.stop(10))
"""
    (home / "module.py").write_text("import autocron_web as autocron\n@autocron.delay\ndef task(): pass\n")
    python = [sys.executable, "-q", how]
    ended = subprocess.run(
        [*python, source] if how == "-c" else python,
        input=None if how == "-c" else source,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(home)])},
        capture_output=True,
        text=True,
        timeout=30,
    )
    lines = ended.stdout.splitlines()
    assert lines[0] == (
        "greet cannot be a task: no worker can find what was typed in an interactive session."
        " Write it into a file and import it from there"
    ), ended.stderr
    serves = str(how != "-i")  # who types has no server
    assert lines[1:] == ["module.task", serves, "True", "True"]  # what stands in a file can be called
    assert pool_processes() == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"minute": 5},
            "minute: no such option of a task; there are weeks, days, hours, minutes, seconds, schedule, ret",
        ),
        ({"delay": 5}, "delay: no such option of a task; there are weeks, "),
        ({"minutes": "5"}, "minutes is '5': give a number, 0 or more"),
        ({"seconds": -1}, "seconds is -1: give a number, 0 or more"),
        ({"hours": True}, "hours is True: give a number, 0 or more"),
        ({"seconds": float("nan")}, "seconds is nan: give a number, 0 or more"),
        ({"days": float("inf")}, "days is inf: give a number, 0 or more"),
        ({"weeks": 9e9}, "weeks=9000000000.0: that is more than 300 years"),
        ({"schedule": "tomorrow"}, "schedule is 'tomorrow': give a datetime (a naive one is local time)"),
        ({"retries": -1}, "retries is -1: give a whole number, 0 or more"),
        ({"retries": 2.5}, "retries is 2.5: give a whole number, 0 or more"),
        ({"retries": 10**9}, "retries is 1000000000: give at most 1,000,000"),
        (
            {"priority": "high"},
            "priority is 'high': give a whole number from -100 to 100, higher ones begin first",
        ),
        (
            {"priority": 101},
            "priority is 101: give a whole number from -100 to 100, higher ones begin first",
        ),
        (
            {"priority": -(2**70)},
            f"priority is {-(2**70)}: give a whole number from -100 to 100, higher ones begin first",
        ),
        ({"backoff": -1.0}, "backoff is -1.0: give a number of seconds, 0 or more"),
        ({"timeout": "10"}, "timeout is '10': give a number of seconds, 0 or more"),
        ({"expires": float("inf")}, "expires is inf: give a number of seconds, 0 or more"),
        ({"result_ttl": float("nan")}, "result_ttl is nan: give a number of seconds, 0 or more"),
        ({"unique": True}, "unique is True: it can be 'args' (task and arguments) or 'task'"),
        ({"queue": 7}, "queue is 7: give a word, such as 'mail'"),
        ({"queue": ""}, "queue is '': give a word, such as 'mail'"),
        ({"queue": "\ud800"}, "queue is '\\ud800': give a word, such as 'mail'"),
    ],
)
def test_wrong_options_of_a_task(started: Engine, options: dict[str, Any], sentence: str) -> None:
    assert says(autocron.delay, **options, kind=autocron.ConfigError).startswith(sentence)
    send = task(one)
    assert says(send.options, **options, kind=autocron.ConfigError).startswith(sentence)
    assert started.get_results() == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("pin", "secret_args is 'pin': give a list of names, such as ['password']"),
        ([7], "secret_args is [7]: give a list of names, such as ['password']"),
        (["pin"], "secret_args names 'pin', which is no argument of one: it has address, copies"),
    ],
)
def test_secret_arguments_that_cannot_be(names: Any, sentence: str) -> None:
    assert says(lambda: autocron.delay(secret_args=names)(one), kind=autocron.ConfigError) == sentence


def test_secret_arguments_are_not_an_option_of_a_call(started: Engine) -> None:
    text = says(task(one).options, secret_args=["address"], kind=autocron.ConfigError)
    assert text == "secret_args is an option of the task, not of a call: give it to delay()"


def test_the_name_of_a_task_is_not_an_option_of_a_call(started: Engine) -> None:
    text = says(task(one).options, name="two", kind=autocron.ConfigError)
    assert text.startswith("name: no such option of a task; there are weeks")


# -- start -----------------------------------------------------------------------------------------


def test_a_call_before_start(engine: Engine, home: Path) -> None:
    sentence = "autocron-web was not started: call autocron_web.start('shop.db') before the first task"
    assert says(task(one), "a", kind=autocron.NotStarted) == sentence
    assert says(engine.get_results, kind=autocron.NotStarted) == sentence
    assert says(task(one), object(), kind=autocron.NotStorable)  # what is wrong in any case is said first
    assert engine.stop() is True
    engine.leave()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("database", "sentence"),
    [
        (None, "the database is None: give a file name ('shop.db') or an absolute path"),
        (7, "the database is 7: give a file name"),
        ("", "the database is '': give a file name"),
        (b"shop.db", "the database is b'shop.db': give a file name"),
        ("a\0b", "the database is 'a\\x00b': give a file name"),
        ("/tmp/", "the database is '/tmp/': give a file name"),
        ("redis://localhost", "the database is 'redis://localhost': of the stores only"),
        ("/no/x.db", "the folder /no of the database '/no/x.db' does not exist: make it first"),
        (Path("/no/x.db"), "the folder /no of the database PosixPath('/no/x.db') does not"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be(engine: Engine, database: Any, sentence: str, home: Path) -> None:
    assert says(engine.start, database, kind=autocron.ConfigError).startswith(sentence)
    assert says(task(one), "a", kind=autocron.NotStarted)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("workers", [0, -1, 257, 1.5, "2", True])
def test_a_number_of_workers_that_cannot_be(engine: Engine, workers: Any, home: Path) -> None:
    text = says(engine.start, "shop.db", workers, kind=autocron.ConfigError)
    assert text == f"workers is {workers!r}: give a whole number from 1 to 256"
    assert list(home.iterdir()) == []


def test_other_words_of_start_that_cannot_be(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = says(engine.start, "shop.db", durability="half", kind=autocron.ConfigError)
    assert text == "durability is 'half': it can be 'full' or 'normal'"
    monkeypatch.setenv("AUTOCRON_MODE", "on")
    text = says(engine.start, "shop.db", kind=autocron.ConfigError)
    assert text == "AUTOCRON_MODE is 'on'; it can be 'pool', 'inline' or 'off'"
    assert list(home.iterdir()) == []


def test_a_second_database(started: Engine, home: Path) -> None:
    text = says(started.start, "other.db", app_id="shop", kind=autocron.ConfigError)
    assert text == (
        f"autocron-web uses {home}/shop.db already: one application has one database, not {home}/other.db too"
    )
    assert started.start("shop.db", app_id="shop") is False  # the same one again
    assert task(one)("a").status == "waiting"
    assert {path.name for path in home.iterdir()} <= {"shop.db", "shop.db-wal", "shop.db-shm"}


@pytest.mark.parametrize("limit", [-1, 1.5, "many", None, True])
def test_a_number_of_results_that_cannot_be(started: Engine, limit: Any) -> None:
    text = says(started.get_results, limit, kind=autocron.ConfigError)
    assert text == f"limit is {limit!r}: give a whole number, 0 or more"
    assert started.get_results(0) == []


# -- a store that cannot be used: the site goes on, and each call says why it cannot -----------------


def refused(engine: Engine, database: str, caplog: pytest.LogCaptureFixture, **keywords: Any) -> str:
    """The sentence of a store that cannot be used, which is said in each of four places."""
    with pytest.raises(autocron.StoreError) as strict:
        engine.start(database, strict=True, **keywords)
    assert engine.start(database, **keywords) is False
    (record,) = [record for record in caplog.records if record.name == "autocron_web"]
    sentence = str(strict.value)
    assert record.getMessage() == FAIL_AT_START + sentence
    assert says(task(one), "a", kind=type(strict.value)) == sentence
    assert says(engine.get_results, kind=type(strict.value)) == sentence
    assert "\n" not in sentence
    return sentence


def test_the_database_of_another_application(
    engine: Engine, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = home / "shop.db"
    store = SqliteStore(path)
    store.open()
    store.adopt("forum")
    assert refused(engine, "shop.db", caplog, app_id="shop") == (
        f"{path} belongs to the application 'forum', and this is 'shop'."
        " Give each application a database of its own, or both the same app_id if they are one."
    )
    assert store.jobs() == []
    store.close()
    assert engine.start("mine.db", app_id="shop") is False  # and another one can be taken instead
    assert task(one)("a").status == "waiting"


def test_files_that_are_no_database(engine: Engine, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "folder").mkdir()
    assert refused(engine, "folder", caplog) == f"{home}/folder is a folder. Give the name of a file in it."
    caplog.clear()
    (home / "notes.txt").write_text("buy milk\n" * 200)
    assert refused(engine, "notes.txt", caplog).endswith(
        "The file is not a SQLite database and was left as it is. Give another database name."
    )
    assert (home / "notes.txt").read_text() == "buy milk\n" * 200
    caplog.clear()
    assert engine.start("shop.db", app_id="shop") is False  # a good one ends the trouble
    assert task(one)("a").status == "waiting"
    assert caplog.records == []


AS_ANOTHER_USER = """
import logging, os, sys
import autocron_web as autocron
import autocron_web.codec, autocron_web.link, autocron_web.store.sqlite  # while they can be read
import hashlib, inspect, pwd

@autocron.delay
def add(a, b):
    return a + b

if os.geteuid() == 0:
    os.setuid(65534)
for database in sys.argv[1:]:
    print(autocron.start(database))
    for start in (False, True):
        try:
            autocron.start(database, strict=True) if start else add(1, 2)
        except autocron.StoreError as error:
            print(error)
"""


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        (0o555, "{folder}/shop.db cannot be made by user {user}: Permission denied. Let this user"),
        (0o000, "the folder {folder} of the database '{folder}/shop.db' is closed to user {user}:"),
    ],
)  # fmt: skip
def test_a_folder_that_may_not_be_written(
    run_script: RunScript, home: Path, mode: int, sentence: str
) -> None:
    folder = home / "folder"
    folder.mkdir()
    home.chmod(0o755)
    folder.chmod(mode)
    script = run_script(AS_ANOTHER_USER, folder / "shop.db")
    sentence = sentence.format(folder=folder, user=os.geteuid() or 65534)
    answer, *sentences = script.stdout.splitlines()
    assert answer == "False"
    assert len(sentences) == 2
    for line in (*sentences, script.stderr.removeprefix(FAIL_AT_START)):
        assert line.startswith(sentence)
    folder.chmod(0o755)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a home")
def test_a_user_without_a_home(run_script: RunScript) -> None:
    script = run_script(AS_ANOTHER_USER, "shop.db", env={"AUTOCRON_HOME": ""})
    lines = script.stdout.splitlines()
    assert lines[0] == "False"
    assert lines[1] == lines[2]
    assert re.fullmatch(
        r"the folder /\S+/\.autocron for the database 'shop\.db' cannot be made \(.*\):"
        r" give an absolute path, or set AUTOCRON_HOME to a folder that you may write",
        lines[1],
    )


def test_every_refusal_is_an_error_of_autocron_web() -> None:
    for name in autocron.__all__:
        value = getattr(autocron, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, AutocronError)
            assert value.__doc__
