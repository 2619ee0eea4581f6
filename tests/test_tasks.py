"""What a decorated function becomes: names, options, the job of a call."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import subprocess
import sys
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web import decorators, tasks
from autocron_web.jobs import SECOND, Job, now
from autocron_web.options import Options
from autocron_web.slots import slot_job
from conftest import CHECKOUT


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(decorators, "crons", {})
    registry: dict[str, Any] = {}
    monkeypatch.setattr(tasks, "registry", registry)
    return registry


def send(address: str, *more: int, copies: int = 1, **words: str) -> str:
    """Send it."""
    return address


def job_of(task: Any, *args: Any, **kwargs: Any) -> Job:
    """The job that a call of the task would store."""
    job: Job = task.job(task.defaults, args, kwargs)
    return job


# -- the decorator ---------------------------------------------------------------------------------


def test_a_task_looks_like_its_function(registry: dict[str, Any]) -> None:
    task = autocron.delay(send)
    assert registry == {"test_tasks.send": task}
    assert task.name == "test_tasks.send"
    assert (task.__name__, task.__doc__, task.__module__) == ("send", "Send it.", "test_tasks")  # type: ignore[attr-defined]
    assert inspect.signature(task) == inspect.signature(send)
    assert repr(task) == "<Task test_tasks.send>"
    assert task.call("a") == "a"
    assert task.function is send


def test_all_forms_of_the_decorator() -> None:
    assert autocron.delay(send).name == "test_tasks.send"
    assert autocron.delay()(send).name == "test_tasks.send"
    assert autocron.delay(minutes=5)(send).name == "test_tasks.send"
    assert autocron.delay(name="mail.send")(send).name == "mail.send"


def test_83_names_lead_to_functions_in_functions_and_classes(registry: dict[str, Any]) -> None:
    @autocron.delay
    def inner() -> None: ...

    class Shop:
        @staticmethod
        @autocron.delay
        def restock() -> str:
            return "restocked"

    assert (
        inner.name == f"test_tasks.{test_83_names_lead_to_functions_in_functions_and_classes.__name__}.inner"
    )
    assert Shop.restock.name.endswith(".Shop.restock")
    assert Shop.restock.call() == "restocked"
    assert len(registry) == 2


def test_the_last_definition_of_a_name_counts(registry: dict[str, Any]) -> None:
    first, second = autocron.delay(send), autocron.delay(send)
    assert registry == {"test_tasks.send": second}
    assert first is not second


def test_a_task_of_a_task_is_the_task(registry: dict[str, Any]) -> None:
    inner = autocron.delay(retries=2, name="nightly")(send)
    assert autocron.delay(inner).function is send

    @autocron.delay(name="clean")
    def clean() -> None: ...

    assert autocron.cron("0 2 * * *")(clean) is clean
    assert set(decorators.crons) == {"clean"}
    assert registry["clean"] is clean


def test_84_functions_of_one_name_in_two_modules_are_two_crons(registry: dict[str, Any]) -> None:
    for module in ("shop", "blog"):

        def clean() -> None: ...

        clean.__module__, clean.__qualname__ = module, "clean"
        autocron.cron("0 2 * * *")(clean)
    assert set(decorators.crons) == set(registry) == {"shop.clean", "blog.clean"}
    jobs = [slot_job(cron, Options(), 7 * SECOND) for cron in decorators.crons.values()]
    assert jobs[0].id != jobs[1].id
    assert {job.unique_key for job in jobs} == {"cron:shop.clean", "cron:blog.clean"}


def test_a_cron_leaves_the_function_as_it_is(registry: dict[str, Any]) -> None:
    def clean() -> str:
        return "clean"

    assert autocron.cron("* * * * *")(clean) is clean
    (name,) = decorators.crons
    assert registry[name].function is clean


def test_a_cron_needs_a_function_that_can_be_called_without_arguments() -> None:
    def needs(user_id: int, *rest: int, word: str, more: int = 1) -> None: ...
    def free(user_id: int = 1, *rest: int, word: str = "", **more: int) -> None: ...

    for decorate in (autocron.cron, autocron.cron("0 2 * * *"), autocron.every(seconds=60)):
        for function in (needs, autocron.delay(needs)):
            with pytest.raises(autocron.TaskDefinitionError, match=r"and needs user_id, word\. Give"):
                decorate(function)  # type: ignore[type-var]
        decorate(free)
    assert len(decorators.crons) == 1


# -- the options -----------------------------------------------------------------------------------


def test_the_parts_of_a_delay_add_up() -> None:
    parts = {"weeks": 1, "days": 1, "hours": 1, "minutes": 1, "seconds": 1.5}
    assert Options().changed(**parts).delay == (604_800 + 86_400 + 3_600 + 60) * SECOND + 1_500_000
    assert Options().changed(minutes=5).changed(seconds=2).delay == 2 * SECOND  # given anew, not added
    assert Options().changed(minutes=5).changed(retries=1).delay == 300 * SECOND
    assert Options().changed(minutes=5).changed(minutes=0).delay == 0


def test_the_options_of_a_call_change_those_of_the_task_for_this_call_only() -> None:
    task = autocron.delay(minutes=5, retries=3, priority=1)(send)
    other = task.options(priority=9, timeout=2)
    assert (other._options.priority, other._options.retries, other._options.timeout) == (9, 3, 2)
    assert (task.defaults.priority, task.defaults.timeout) == (1, None)


def test_a_job_carries_what_the_monitor_needs() -> None:
    before = now()
    job = job_of(autocron.delay(send), "a", 1, 2, copies=3, word="x")
    assert before <= job.created == job.due <= now()
    assert (job.task, job.kind, job.queue, job.priority, job.state) == (
        "test_tasks.send", "call", "default", 0, "waiting",
    )  # fmt: skip
    assert (job.meta, job.unique_key, job.expires, job.codec) == ({}, None, None, "json")
    options: dict[str, Any] = {
        "retries": 2, "backoff": 0.5, "timeout": 60, "result_ttl": 9, "queue": "mail", "priority": -3,
        "minutes": 1, "expires": 1.5,
    }  # fmt: skip
    job = job_of(autocron.delay(**options)(send), "a")
    assert job.meta == {"retries": 2, "backoff": 0.5, "timeout": 60, "result_ttl": 9}
    assert (job.queue, job.priority) == ("mail", -3)
    assert job.due == job.created + 60 * SECOND
    assert job.expires == job.due + 1_500_000


def test_a_schedule_is_a_moment_and_in_the_past_it_is_now() -> None:
    moment = dt.datetime(2100, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=9)))
    job = job_of(autocron.delay(schedule=moment)(send), "a")
    assert job.due == 4_102_455_600 * SECOND  # 2100-01-01 03:00 UTC
    assert job_of(autocron.delay(schedule=moment, minutes=5)(send), "a").due == job.due
    old = job_of(autocron.delay(schedule=dt.datetime(1970, 1, 2))(send), "a")  # noqa: DTZ001 - naive is local
    assert old.due == old.created


def test_unique_calls_are_those_with_equal_arguments() -> None:
    task = autocron.delay(unique="args")(send)
    keys = [
        job_of(task, "a").unique_key,
        job_of(task, "a").unique_key,
        job_of(task, "b").unique_key,
        job_of(task, "a", copies=2).unique_key,
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert all(key and key.startswith("test_tasks.send:") for key in keys)
    assert job_of(autocron.delay(unique="task")(send), "a").unique_key == "test_tasks.send"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((("a",), {}), ((), {"address": "a"})),
        ((("a",), {"x": {"c": 1, "d": 2}}), (("a",), {"x": {"d": 2, "c": 1}})),  # type: ignore[dict-item]
        ((("a",), {"x": "1", "y": "2"}), (("a",), {"y": "2", "x": "1"})),
    ],
)
def test_arguments_are_equal_however_they_are_given(first: Any, second: Any) -> None:
    task = autocron.delay(unique="args")(send)
    keys = {job_of(task, *args, **kwargs).unique_key for args, kwargs in (first, second)}
    assert len(keys) == 1


# -- inline: no store, no pool ---------------------------------------------------------------------


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> autocron.Engine:
    engine = autocron.Engine()
    monkeypatch.setattr(sys.modules["autocron_web.engine"], "engine", engine)
    monkeypatch.setenv("AUTOCRON_MODE", "inline")
    assert engine.start("never-made.db") is False
    return engine


def test_inline_a_call_has_run_when_it_returns(inline: autocron.Engine) -> None:
    def fail() -> None:
        raise LookupError("nothing")

    done = autocron.delay(send)("a")
    assert (done.status, done.result, done.get(), done.attempt) == ("done", "a", "a", 1)
    failed = autocron.delay(retries=5)(fail)()
    assert (failed.status, failed.attempt) == ("error", 1)
    assert "LookupError: nothing" in (failed.error_message or "")
    assert [r.status for r in inline.get_results()] == ["error", "done"]
    assert inline.stop() is True


def test_inline_coroutines_run_wherever_they_are_called(inline: autocron.Engine) -> None:
    @autocron.delay
    async def nap(word: str) -> str:
        await asyncio.sleep(0)
        return word

    assert nap("outside").get() == "outside"

    async def main() -> list[str]:
        first = nap("inside")  # while this loop runs
        both = await asyncio.gather(nap.aenqueue("a"), nap.aenqueue("b"))  # in other threads
        return [await first, *[await result for result in both]]

    assert asyncio.run(main()) == ["inside", "a", "b"]
    assert nap("outside again").get() == "outside again"


# -- the import ------------------------------------------------------------------------------------


def test_decorating_imports_nothing_that_takes_long() -> None:
    code = """
import sys
before = set(sys.modules)
import autocron_web as autocron

@autocron.delay(minutes=5, name="x")
def task(): pass

heavy = {"asyncio", "inspect", "sqlite3", "logging", "dataclasses", "uuid", "decimal", "flask", "django",
         "subprocess", "hashlib", "typing_extensions", "email", "http"}
print(sorted(heavy & (set(sys.modules) - before)), len(__import__("threading").enumerate()))
"""
    # `python -c` has no file in which a worker could find a task, so the function says it is from elsewhere.
    code = code.replace("@autocron", "__name__ = 'elsewhere'\n@autocron")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout == "[] 1\n"
