"""The plugin for pytest and the test flags of frameworks: calls that run at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_page import pytest_of_a_user, run
from test_recording import contract

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

SHOP = """
import autocron_web as autocron

autocron.start("shop.db")
calls = []

@autocron.delay(minutes=5, retries=3)
def work(word):
    calls.append(word)
    if word == "fail":
        raise LookupError(word)
    return word

@autocron.every(seconds=1, start_now=True)
def tick():
    calls.append("tick")
"""


def files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@contract.holds(
    "Delays, retries and crons do not count here: a call has run once when it returns.",
    "`get_results()` shows what this test has called, and nothing of the one before.",
)
def test_calls_run_at_once_and_tests_do_not_see_each_other(tmp_path: Path) -> None:
    test = """
import os, threading
import pytest
import autocron_web as autocron
import shop

@pytest.mark.parametrize("number", [1, 2])
def test_calls(number):
    shop.calls.clear()
    assert shop.work("a").get() == "a"
    assert shop.work("fail").has_error
    assert shop.calls == ["a", "fail"]
    assert [r.status for r in autocron.get_results()] == ["error", "done"]
    assert threading.active_count() == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)

def test_between_recordings(autocron):
    shop.work("b")
    assert shop.calls == ["a", "fail"]
    assert len(autocron.enqueued()) == 1

test_calls_again = test_calls

def test_no_recording_is_left(autocron):
    assert autocron.enqueued() == []
"""
    conftest = "import shop\n"  # starts before any test, as an app does that is imported
    folder = files(tmp_path, shop=SHOP, test_shop=test, conftest=conftest)
    assert "6 passed" in pytest_of_a_user(folder)


def test_coroutines_run_by_a_plugin_for_them(tmp_path: Path) -> None:
    """That of anyio, which comes with Starlette."""
    test = """
import asyncio
import pytest
import shop

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_recorded(autocron):
    results = await asyncio.gather(shop.work.aenqueue("a"), shop.nap.aenqueue("b"))
    assert [r.status for r in results] == ["waiting", "waiting"]
    autocron.travel(minutes=5)
    assert [await r for r in results] == ["a", "b"]

@pytest.mark.anyio
async def test_at_once():
    assert await shop.nap("b") == "b"
    assert await shop.work("a") == "a"
"""
    nap = "\n@autocron.delay\nasync def nap(word):\n    return word\n"
    folder = files(tmp_path, shop=SHOP + nap, test_shop=test)
    assert "2 passed" in pytest_of_a_user(folder)


@contract.holds("A call needs no `start()` before it.")
def test_a_call_needs_no_start(tmp_path: Path) -> None:
    test = "import shop\n\ndef test_it():\n    assert shop.work('a').get() == 'a'\n"
    folder = files(tmp_path, shop=SHOP.replace('autocron.start("shop.db")', ""), test_shop=test)
    assert "1 passed" in pytest_of_a_user(folder)


def test_without_the_plugin_and_with_another_mode(tmp_path: Path) -> None:
    test = """
import pytest
import autocron_web as autocron
from autocron_web import settings

def test_it():
    assert settings.mode() == "pool"
    with pytest.raises(autocron.NotStarted):
        autocron.get_results()
"""
    folder = files(tmp_path, test_it=test)
    assert "1 passed" in pytest_of_a_user(folder, "-p", "no:autocron")
    environment = {**os.environ, "AUTOCRON_MODE": "pool"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50)
    assert "1 passed" in ended.stdout


def test_the_process_of_pytest_goes_on_as_before(tmp_path: Path) -> None:
    script = """
import pytest
from autocron_web import settings
assert pytest.main(["-q", "-p", "no:cacheprovider", "test_it.py"]) == 0
assert settings.mode() == "pool"
"""
    test = "from autocron_web import settings\n\ndef test_it():\n    assert settings.mode() == 'inline'\n"
    run(files(tmp_path, script=script, test_it=test), "script.py")


def test_the_flag_of_flask(tmp_path: Path) -> None:
    script = """
import flask, sys
import autocron_web as autocron
from autocron_web.flask import AutocronFlask

app = flask.Flask("shop")
app.testing = True
AutocronFlask(app)

@autocron.delay
def name():
    return flask.current_app.name

assert name().get() == "shop"
with autocron_web.testing.recording() as it:
    name()
    assert it.drain()[0].get() == "shop"
"""
    run(
        files(tmp_path, script=script.replace("import flask, sys", "import flask, autocron_web.testing")),
        "script.py",
    )


def test_the_plugin_imports_nothing_that_takes_long() -> None:
    code = """
import sys, pytest
before = set(sys.modules)
import autocron_web.pytest_plugin
new = set(sys.modules) - before
heavy = {"asyncio", "sqlite3", "cronsim", "zoneinfo", "flask", "autocron_web.testing", "autocron_web.codec"}
print(sorted(new & heavy))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout == "[]\n"


def test_each_sentence_of_the_page_is_held() -> None:
    assert contract.unheld() == []
