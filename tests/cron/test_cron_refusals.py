"""What is refused, and how: the table of docs/cron.md."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from cron_cases import at, contract
from hypothesis import given, settings
from hypothesis import strategies as st

import autocron_web as autocron
from autocron_web.crontab import Crontab
from autocron_web.errors import ConfigError


def table_of_refusals() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", contract.text.split("## What is refused")[1], re.MULTILINE)
    assert len(rows) > 10
    return rows


@contract.holds("Whatever is refused raises `ConfigError` where the cron is declared.")
@pytest.mark.parametrize(("expression", "message"), table_of_refusals())
def test_the_page_shows_the_message(expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.parse(expression)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "'' has 0 fields, and a crontab has five: minutes hours days months days_of_week"),
        ("0 0 0 0 0 0", "has 6 fields"),
        ("0 0 * * 8", "days_of_week: 8 is not in 0–7 (0 and 7 are Sunday)"),
        (
            "0 0 * * foo",
            "'foo' is not a number in 0–7 (0 and 7 are Sunday) or one of sun mon tue wed thu fri sat",
        ),
        ("0 0 * * sat-mon", "sat-mon ends before it begins in '0 0 * * sat-mon': write sat-sat,sun-mon"),
        ("0 0 * * mon#1", "days_of_week: 'mon#1' is not a number"),
        ("0 0 31 2,4,jun *", "days: 31 never comes in feb,apr,jun"),
        ("*/ * * * *", "minutes: the step '' is not a number in 1–59"),
        ("*/-5 * * * *", "minutes: the step '-5' is not a number"),
        ("1-2-3 * * * *", "minutes: '2-3' is not a number"),
        ("*-5 * * * *", "minutes: '*' is not a number"),
        ("٣ * * * *", "minutes: '٣' is not a number"),
        ("1.5 * * * *", "minutes: '1.5' is not a number"),
        ("+5 * * * *", "minutes: '+5' is not a number"),
        ("9" * 5000 + " * * * *", "minutes: 99999999999999999999 is not in 0–59 in '9"),
        ("x" * 5000 + " * * * *", "minutes: 'x"),
    ],
    ids=lambda text: text[:30],
)
def test_other_refusals(expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.parse(expression, order="unix")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"minutes": [61]}, "minutes: 61 is not in 0–59 in minutes=[61]"),
        ({"minutes": -1}, "minutes: '' is not a number in 0–59 in minutes=-1"),
        ({"minutes": []}, "minutes is empty: leave it out to allow all of 0–59"),
        ({"minutes": True}, "minutes: True is neither a number nor a name in minutes=True"),
        ({"minutes": [1.5]}, "minutes: 1.5 is neither a number nor a name in minutes=[1.5]"),
        ({"minutes": {1: 2}}, "minutes: {1: 2} is neither a number nor a name"),
        ({"minutes": b"1"}, "minutes: b'1' is neither a number nor a name"),
        ({"minutes": ""}, "minutes: '' is not a number"),
        ({"dow": 7}, "days_of_week: 7 is not in 0–6 (0 is Monday) in dow=7"),
        ({"dow": "0 1"}, "days_of_week: '0 1' is not a number"),
        ({"dow": 1, "days_of_week": 2}, "dow and days_of_week are the same: give one of them"),
        (
            {"weekday": 1},
            "weekday: no such field of a cron; there are minutes, hours, days_of_week, months, days, dow",
        ),
        (
            {"days": [30, 31], "months": ["feb"]},
            "days: 30 never comes in feb in days=[30, 31], months=['feb']",
        ),
        ({"minutes": list(range(61))}, "minutes: 60 is not in 0–59 in minutes=[0, 1, 2"),
    ],
    ids=str,
)
def test_refusals_of_keywords(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Crontab.of(**keywords)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda: autocron.cron(minute=[30]),  # type: ignore[call-overload]
            "minute: no such keyword of cron; there are crontab, minutes, hours, days, months, days_of_week",
        ),
        (
            lambda: autocron.every(5, minutes=5),  # type: ignore[arg-type]
            "minutes: no such keyword of every; there are seconds, start_now, missed, catch_up, overlap",
        ),
        (lambda: autocron.cron(dow=1, days_of_week=2), "days_of_week and dow are the same: give one of them"),
        (
            lambda: autocron.cron(tz="Mars/Base"),
            "(if that is one, pip install tzdata), or an offset such as '+02:00'",
        ),
    ],
)
def test_a_wrong_keyword_is_told_with_the_right_ones(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declare()
    assert message in str(caught.value)
    assert "crontab(5)" not in str(caught.value)


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"] * 5])
def test_a_crontab_is_a_text(expression: Any) -> None:
    with pytest.raises(ConfigError, match="a crontab is a text of five fields, not "):
        Crontab.parse(expression)
    with pytest.raises(ConfigError, match="order is 'quartz': it can be 'autocron' or 'unix'"):
        Crontab.parse("* * * * *", order="quartz")  # type: ignore[arg-type]


@pytest.mark.once
@given(
    st.text(st.sampled_from("0123456789*/-, monjanL#?@é"), max_size=20), st.sampled_from(["autocron", "unix"])
)
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_crontab_or_refused(text: str, order: Any) -> None:
    for expression in (text, f"{text} * * * *", f"0 0 {text} * *", f"0 0 * * {text}"):
        with contextlib.suppress(ConfigError):
            crontab = Crontab.parse(expression, order=order, tz="UTC")
            assert crontab.next_after(at("2026-01-01")) > at("2026-01-01")
            assert crontab.in_words()


def test_declaring_a_cron_loads_neither_zones_nor_cronsim(run_script: Any) -> None:
    script = run_script(
        "import sys\n"
        "from autocron_web.crontab import Crontab\n"
        "Crontab.parse('30 2 * * 1').canonical\n"
        "Crontab.of(hours=[2]).canonical\n"
        "print([name for name in ('zoneinfo', 'cronsim') if name in sys.modules])\n"
    )
    assert script.stdout == "[]\n"
