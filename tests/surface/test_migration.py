"""What is to be changed in an application of autocron 1.x: it works, or is refused with the way out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from test_surface import APPLICATION, contract, kit, registry, schedule_of  # noqa: F401

import autocron_web as autocron
from autocron_web.crontab import Crontab
from autocron_web.errors import ConfigError, StoreError
from autocron_web.store.sqlite import SqliteStore
from autocron_web.testing import Recording
from conftest import RunScript, wait_until


@pytest.fixture
def a_result(kit: Recording) -> autocron.Result[int]:
    @autocron.delay
    def double(number: int) -> int:
        return number * 2

    return double(21)


@contract.holds(
    "The database of 1.x is refused: give another name. What still waits in the old one is not taken "
    "over, so let it run before.",
)
def test_the_old_database(home: Path) -> None:
    with closing(sqlite3.connect(home / "old.db")) as connection:
        connection.execute(
            "CREATE TABLE task (uuid TEXT, schedule datetime, status INTEGER, crontab TEXT,"
            " function_module TEXT, function_name TEXT, function_arguments BLOB)"
        )
    store = SqliteStore(home / "old.db")
    with pytest.raises(StoreError, match=r"is a database of autocron 1\.x.*[Gg]ive .*another database name"):
        store.open()
    store.close()


@contract.holds(
    "1.2.2 read a crontab in the order of crontab(5), other than its documentation says. Here the "
    "documented order counts, as in `30 9 0,2 * *`.",
    'If yours ran as you wanted, write `unix=` before it: `@cron(unix="30 9 * * 1,3")`.',
)
def test_the_order_of_the_fields() -> None:
    documented = Crontab.parse("30 9 0,2 * *", tz="UTC")
    assert documented.in_words() == "at 09:30 on Monday and Wednesday"
    assert Crontab.parse("30 9 * * 1,3", order="unix", tz="UTC").canonical == documented.canonical
    with pytest.raises(ConfigError, match=r"write unix='30 9 \* \* 0'"):
        Crontab.parse("30 9 * * 0")


@contract.holds("The log of the pool says once of each crontab that can be read in both ways how it is read.")
def test_the_log_explains_a_crontab(run_script: RunScript) -> None:
    ambiguous = APPLICATION.replace('cron("30 9 0,2 * *")', 'cron("30 9 1,2 * *")')
    source = ambiguous.replace("START", 'autocron.start("the_app.db")').replace("STOP", "autocron.stop()")
    script = run_script(source)
    wait_until(lambda: "write unix= before it" in script.stderr, 10, "the sentence")
    assert script.stderr.count("application.send_newsletter '30 9 1,2 * *' is read as minutes, hours") == 1
    assert "at 09:30 on Tuesday and Wednesday" in script.stderr


@contract.holds("A crontab together with fields as keywords is refused; 1.x left out the keywords.")
def test_a_crontab_beside_keywords() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        autocron.cron("* * * * *", minutes=[1])


@contract.holds(
    "A call of a task inside of a task enqueues it like any other; 1.x ran it at once. "
    "`send_mail.call(…)` runs it at once.",
)
def test_tasks_in_tasks(kit: Recording) -> None:
    calls = []

    @autocron.delay
    def send_mail(word: str) -> str:
        calls.append(word)
        return word

    @autocron.delay
    def parent() -> None:
        assert send_mail.call("at once") == "at once"
        assert isinstance(send_mail("later"), autocron.Result)
        calls.append("end of parent")

    parent()
    kit.drain()
    assert calls == ["at once", "end of parent", "later"]


@contract.holds(
    "Arguments and results are JSON instead of pickles, and what cannot be stored is refused when the "
    "task is called: see [payload.md](payload.md).",
)
def test_what_cannot_be_stored(kit: Recording) -> None:
    @autocron.delay
    def send_mail(to: object) -> None: ...

    with pytest.raises(autocron.NotStorable, match="argument 'to'"):
        send_mail(object())
    assert kit.enqueued() == []


@contract.holds(
    "`is_ready` and `is_waiting` can be read as attributes and as calls.",
    '`Result.status` is a word such as `"waiting"`, not a number.',
    "`error_message` is the whole traceback, whose last line is the message of 1.x, and `None` where "
    "there is no error.",
)
def test_the_names_of_a_result(kit: Recording, a_result: autocron.Result[int]) -> None:
    r = a_result
    assert (r.is_ready, r.is_ready(), r.is_waiting, r.is_waiting()) == (False, False, True, True)
    assert (r.has_error, r.error_message) == (False, None)
    assert (r.result, r.function_result, r.status) == (None, None, "waiting")
    kit.drain()
    assert (r.is_ready, r.is_ready(), r.is_waiting, r.is_waiting()) == (True, True, False, False)
    assert (r.result, r.function_result, r.status, r.uuid) == (42, 42, "done", r.id)
    assert json.dumps([r.is_ready(), r.has_error]) == "[true, false]"

    @autocron.delay
    def fail() -> None:
        raise ValueError("something went wrong")

    r = fail()  # type: ignore[assignment]
    kit.drain(allow_errors=True)
    assert (r.is_ready, r.has_error, r.status) == (True, True, "error")
    assert (r.error_message or "").splitlines()[-1] == "ValueError: something went wrong"


@contract.holds(
    "`function_name`, `function_module`, `function_arguments`, `ttl` and others say in their error what "
    "to use instead.",
)
def test_other_names_are_refused_with_the_way_out(a_result: autocron.Result[int]) -> None:
    for name, way_out in {
        "function_name": "`task`", "function_module": "`task`", "function_arguments": "arguments",
        "args": "arguments", "kwargs": "arguments", "func": "`.call()`", "ttl": "result_ttl", "rowid": "`id`",
    }.items():  # fmt: skip
        with pytest.raises(AttributeError, match=r"since autocron 1\.x: ") as refused:
            getattr(a_result, name)
        assert way_out in str(refused.value)
        assert not hasattr(a_result, name)
    with pytest.raises(AttributeError, match="a Result has no attribute 'resutl'"):
        _ = a_result.resutl  # type: ignore[attr-defined]


@contract.holds("No signal handler is set, and no setting for blocking or idle times is needed.")
def test_nothing_changes_in_the_process(run_script: RunScript) -> None:
    source = """
import signal
import autocron_web as autocron

def handlers():
    return [signal.getsignal(number) for number in signal.valid_signals()]

if __name__ == "__main__":
    before = handlers()
    autocron.start("the_app.db")
    print(before == handlers())
    autocron.stop()
"""
    assert run_script(source).stdout == "True\n"


def test_each_sentence_of_the_page_is_held() -> None:
    assert contract.unheld() == []
