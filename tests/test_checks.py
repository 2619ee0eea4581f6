"""What can be asked of jobs and of a task: a sentence for everything else."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web.checks import check_patience, check_progress, check_query, is_storable

pytestmark = pytest.mark.once

NAIVE = datetime.datetime.min, datetime.datetime.max  # noqa: DTZ901 - local time is what they are given as


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, None), (float("inf"), None), (0, 0), (-1, -1), (1.5, 1.5), (Decimal("1.5"), 1.5),
        (Fraction(1, 2), 0.5), (1e12, 1e10), (-1e300, -1e10),
    ],
)  # fmt: skip
def test_how_long_somebody_can_wait(given: Any, taken: float | None) -> None:
    assert check_patience(given) == taken


@pytest.mark.parametrize("given", [float("nan"), "5", b"5", True, [], 10**400, Decimal("nan"), 1j, object()])
def test_how_long_nobody_can_wait(given: Any) -> None:
    with pytest.raises(autocron.ConfigError) as error:
        check_patience(given)
    text = str(error.value)
    assert text.endswith("give a number of seconds, or None to wait for as long as it takes")
    assert len(text) < 200


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"limit": -1}, "limit is -1: give a whole number, 0 or more"),
        ({"limit": "many"}, "limit is 'many': give a whole number, 0 or more"),
        ({"limit": -(10**5000)}, "limit is a int: give a whole number, 0 or more"),
        (
            {"state": "ready"},
            "state is 'ready': it can be 'waiting', 'running', 'done', 'error', 'cancelled'",
        ),
        ({"state": "\ud800"}, "state is '\\ud800': it can be 'waiting'"),
        ({"state": []}, "state is []: it can be 'waiting'"),
        ({"task": "\ud800"}, "task is '\\ud800': give the name of a task, such as 'shop.send_mail'"),
        ({"task": b"shop.a"}, "task is b'shop.a': give the name of a task, such as 'shop.send_mail'"),
    ],
)
def test_questions_that_have_no_answer(query: dict[str, Any], sentence: str) -> None:
    with pytest.raises(autocron.ConfigError) as error:
        check_query(**{"limit": 5, "task": None, "state": None, **query})
    assert str(error.value).startswith(sentence)


def test_any_number_of_jobs_can_be_asked_for() -> None:
    assert check_query(0, None, None) == 0
    assert check_query(7, "shop.a", "done") == 7
    assert check_query(10**400, None, None) == 2**63 - 1


def test_progress_is_told_in_numbers() -> None:
    assert check_progress(1, None) == (1, None)
    assert check_progress(Decimal("0.5"), 10**30) == (0.5, 10**30)
    for done in ("1", None, True, float("nan"), float("inf"), 10**400):
        with pytest.raises(autocron.ConfigError, match=r"^done is .*: give a number$"):
            check_progress(done, 1)
    with pytest.raises(autocron.ConfigError, match=r"^total is nan: give a number$"):
        check_progress(1, float("nan"))


@pytest.mark.parametrize("text", ["", "a", "ä", "\U0001f600", "\n\x01", "a\0b"])
def test_what_a_store_can_hold(text: str) -> None:
    assert is_storable(text)


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9", "a\udfff\0"])
def test_what_no_store_can_hold(text: str) -> None:
    assert not is_storable(text)
    with pytest.raises(autocron.TaskDefinitionError, match="which no store can hold"):
        autocron.delay(name=text)(test_what_no_store_can_hold)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=14)))},
        {"schedule": NAIVE[1]}, {"timeout": 9.99e9}, {"days": 100_000}, {"expires": 9.99e9},
        {"result_ttl": 9.99e9}, {"backoff": 9.99e9, "retries": 3},
    ],
)  # fmt: skip
def test_the_longest_times_work(options: dict[str, Any]) -> None:
    task = autocron.delay(name="longest", **options)(test_the_longest_times_work)
    job = task.job(task.defaults, ({},), {})
    assert 0 < job.due < 2**63
    assert (job.expires or 0) < 2**63


def test_times_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(autocron.ConfigError, match="of which no time can be told"):
        autocron.delay(schedule=NAIVE[0])(test_the_longest_times_work)
    for options in ({"timeout": 1e10}, {"expires": float("inf")}, {"timeout": -(10**5000)}):
        with pytest.raises(autocron.ConfigError, match="300 years at most"):
            autocron.delay(**options)(test_the_longest_times_work)  # type: ignore[arg-type]  # it is refused
    with pytest.raises(autocron.ConfigError, match="1 or more, up to 30 years"):
        autocron.every(seconds=1e9)
