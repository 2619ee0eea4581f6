"""What the facts mean, case by case; no pool, no store, no clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from autocron_web.jobs import SECOND
from autocron_web.store import CronRow
from autocron_web.web import metrics, redact, verdict
from autocron_web.web.facts import SILENT, Facts, StoreFacts


def at(text: str) -> int:
    """Microseconds of a moment in UTC: "01 09:30" is the first of June 2026 at half past nine."""
    return (
        int(datetime.strptime(f"2026-06-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()) * SECOND
    )


NOON = at("10 12:00")


def facts(**known: Any) -> Facts:
    """Those of a pool that is well, but for what is given: of the store, the monitor or the rest."""
    store = StoreFacts()
    store.code = store.trouble = ""
    monitor = {
        "pid": 1, "version": "0", "epoch": 1, "started": at("01 00:00"), "accepting": True, "ending": None,
        "apps": [{"pid": 2, "born": 3}], "size": 1, "workers": [worker("ready")], "trouble": None,
        "store_trouble": None, "crons": [], "finished": {}, "template": None, "no_template": None,
        "pause": None,
    }  # fmt: skip
    for name, value in known.items():
        if name in monitor:
            monitor[name] = value
        elif hasattr(store, name):
            setattr(store, name, value)
    return Facts(
        known.get("moment", NOON), 1, store, known.get("monitor", monitor), known.get("silent"),
        known.get("waited", 0.1),
    )  # fmt: skip


def worker(state: str, started: int = NOON) -> dict[str, Any]:
    return {"pid": 9, "state": state, "retiring": False, "started": started, "job": None, "beside": 0}


def verdicts(max_age: float = 60.0, **known: Any) -> list[tuple[str, str]]:
    return [(reason.status, reason.code) for reason in verdict.reasons(facts(**known), max_age)]


CASES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"monitor": None}, [("fail", "no_monitor")]),
    ({"monitor": None, "silent": 0.8}, [("warn", "monitor_silent")]),
    ({"monitor": None, "silent": SILENT + 0.1}, [("fail", "monitor_silent")]),
    ({"monitor": None, "silent": float("inf")}, [("fail", "monitor_silent")]),
    ({"workers": [worker("loading", NOON - 9 * SECOND)]}, [("warn", "loading")]),
    ({"workers": [worker("loading", NOON - 61 * SECOND)]}, [("fail", "loading")]),
    ({"workers": [], "trouble": "no"}, [("fail", "no_worker")]),
    ({"workers": [], "pause": "it has died twice"}, [("warn", "pausing")]),
    ({"workers": [worker("loading")], "trouble": "no"}, [("fail", "no_worker")]),
    ({"workers": [worker("running"), worker("loading")], "trouble": "no"}, [("warn", "worker_trouble")]),
    ({"workers": [], "apps": [], "accepting": False}, [("warn", "no_app")]),
    ({"workers": [worker("retiring")], "ending": "told to", "accepting": False}, [("warn", "ending")]),
    ({"next_due": NOON + SECOND}, []),
    ({"next_due": NOON - 60 * SECOND}, []),
    ({"next_due": NOON - 61 * SECOND}, [("fail", "queue_stuck")]),
    ({"next_due": NOON - 61 * SECOND, "max_age": 62.0}, []),
    ({"unknown": {"shop.new": 3}}, [("warn", "unknown_task")]),
    ({"code": "store_gone"}, [("fail", "store_gone")]),
    ({"code": "store_slow", "waited": 0.8}, [("warn", "store_slow")]),
    ({"code": "store_slow", "waited": SILENT + 0.1}, [("fail", "store_slow")]),
    ({"store_trouble": "the disk is full"}, [("fail", "store_unusable")]),
    ({"locked": True, "monitor": None, "next_due": 0}, [("warn", "locked")]),
    ({"unknown": {"a": 1}, "next_due": 0}, [("fail", "queue_stuck"), ("warn", "unknown_task")]),
]


@pytest.mark.parametrize(("known", "expected"), CASES)
def test_reasons(known: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    given = dict(known)
    assert verdicts(given.pop("max_age", 60.0), **given) == expected


# -- crons ------------------------------------------------------------------------------------------------

DAILY = "0 2 * * *"
CRONS: list[tuple[str, str, str, str, str, float, bool]] = [
    # schedule, last slot, start of the monitor, now, missed, catch_up, whether it is overdue
    (DAILY, "10 02:00", "01 00:00", "10 12:00", "once", 3600, False),
    (DAILY, "09 02:00", "01 00:00", "10 12:00", "once", 3600, False),  # late, by less than its interval
    (DAILY, "09 02:00", "01 00:00", "11 02:01", "once", 3600, False),
    (DAILY, "09 02:00", "01 00:00", "11 02:02", "once", 3600, True),
    # After three days without a pool the missed run is too old, and the next one comes tonight.
    (DAILY, "07 02:00", "10 10:00", "10 12:00", "once", 3600, False),
    (DAILY, "07 02:00", "10 10:00", "12 02:02", "once", 3600, True),
    # One that was to be caught up with, and was not.
    (DAILY, "07 02:00", "10 02:30", "11 02:02", "once", 3600, True),
    ("0 * * * *", "10 02:00", "10 12:30", "10 12:59", "skip", 3600, False),
    ("0 * * * *", "10 02:00", "10 12:30", "10 14:02", "skip", 3600, True),
    ("every 5", "10 11:58", "01 00:00", "10 12:00", "once", 3600, True),
    ("every 5", "10 11:59", "01 00:00", "10 12:00", "once", 3600, False),
    # Each Friday: the 5th, the 12th, the 19th.
    ("0 9 * * fri", "05 09:00", "01 00:00", "19 09:00", "once", 3600, False),
    ("0 9 * * fri", "05 09:00", "01 00:00", "19 09:02", "once", 3600, True),
]


@pytest.mark.parametrize(("schedule", "last", "started", "moment", "missed", "catch_up", "late"), CRONS)
def test_a_cron_is_overdue_by_more_than_its_interval_and_a_minute(
    schedule: str, last: str, started: str, moment: str, missed: str, catch_up: float, late: bool
) -> None:
    cron = {"name": "a", "schedule": schedule, "zone": "UTC", "missed": missed, "catch_up": catch_up}
    row = CronRow("a", schedule, "UTC", at("01 00:00"), at(last))
    known = facts(moment=at(moment), started=at(started), crons=[cron])
    known.store.crons = [row]
    found = [(reason.status, reason.code) for reason in verdict.reasons(known, 60.0)]
    assert found == ([("fail", "cron_overdue")] if late else [])


def test_a_cron_that_is_gone_from_the_code_is_never_overdue() -> None:
    known = facts()
    known.store.crons = [CronRow("gone", "* * * * *", "UTC", 0, 0)]
    assert verdict.reasons(known, 60.0) == []


@pytest.mark.parametrize(
    ("created", "last_slot", "expected"),
    [
        ("10 01:00", "10 01:00", None),  # first seen
        ("10 01:00", "10 02:00", "10 02:00"),
        ("10 01:00", "10 07:30", None),  # its schedule was changed then
    ],
)
def test_the_last_run(created: str, last_slot: str, expected: str | None) -> None:
    row = CronRow("a", DAILY, "UTC", at(created), at(last_slot))
    assert verdict.last_run(row) == (None if expected is None else at(expected))


@pytest.mark.parametrize(
    "row",
    [
        CronRow("a", "nonsense", "UTC", 0, NOON),
        CronRow("a", DAILY, "Nowhere/Land", 0, NOON),
        CronRow("a", "every x", "UTC", 0, NOON),
        CronRow("a", DAILY, "UTC", -(2**63), 2**63 - 1),
    ],
)
def test_a_row_that_somebody_else_has_written_is_no_run(row: CronRow) -> None:
    assert verdict.last_run(row) is None


# -- redaction and metrics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("password=hunter2", "hunter2"),
        ("db_passwd: 'hunter2 and more'", "hunter2"),
        ("Authorization: Bearer hunter2", "hunter2"),
        ('{"api_key": "hunter2"}', "hunter2"),
        ("Cookie: session=hunter2", "hunter2"),
        ("card_number = 4111 1111", "4111"),
        ("postgresql://shop:hunter2@db/shop", "hunter2"),
        ("SECRET_KEY='hunter2'", "hunter2"),
        ('File "/home/ann/shop/tasks.py", line 3', "/home/ann"),
    ],
)
def test_what_may_be_a_secret_is_hidden_in_texts(text: str, hidden: str) -> None:
    assert hidden not in str(redact.text(f"before {text}\nafter"))
    assert str(redact.text(f"before {text}\nafter")).endswith("\nafter")


def test_what_is_no_secret_is_shown() -> None:
    text = "ValueError: https://example.org/a/b is not 3 of 5: see tasks.py, line 3"
    assert redact.text(text) == text


def test_arguments_are_shown_by_their_names() -> None:
    payload = b'[["ann", "hunter2", {"token": "hunter2", "deep": [{"my_secret": 1, "x": 2}]}], {"cookie": 3}]'
    assert redact.arguments(payload, "json", ["user", "password"]) == {
        "user": "ann",
        "password": "[redacted]",
        "2": {"token": "[redacted]", "deep": [{"my_secret": "[redacted]", "x": 2}]},
        "cookie": "[redacted]",
    }


@pytest.mark.parametrize("payload", [b"", b"\xff", b"7", b"[[], []]", b"[1, 2]", b"[" * 100_000])
def test_damaged_arguments(payload: bytes) -> None:
    assert redact.arguments(payload, "json", []) in ("[damaged]", {})
    assert redact.arguments(payload, "pickle", []) == "[pickle]"


def test_large_values_are_cut_and_take_no_time() -> None:
    began = time.monotonic()
    for text in (
        "pass" * 2_500_000,
        "key=" * 2_500_000,
        "/a" * 5_000_000,
        "x" * 10_000_000,
        "a://" * 2_000_000,
    ):
        shown = redact.text(text)
        assert shown is not None
        assert len(shown) <= 2 * redact.LONGEST
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": [deep] * 2}
    assert len(str(redact.visible({"wide": list(range(10_000)), "deep": deep}))) < 100_000
    assert time.monotonic() - began < 5


def test_metrics_hold_any_name() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    name = 'a"b\\c\nd{}\x1b\u202e'
    document = {
        "status": "pass", "reasons": [],
        "pool": {
            "monitor": None, "apps": [], "workers": [], "finished": None, "jobs": None,
            "oldest_due_seconds": 0.0, "unknown_tasks": {name: 3, "\ud800": 1}, "crons": [],
            "store": {"bytes": None, "wal_bytes": None},
        },
    }  # fmt: skip
    families = {each.name: each for each in text_string_to_metric_families(metrics.text(document))}
    samples = families["autocron_unknown_task_jobs"].samples
    assert {sample.labels["task"]: sample.value for sample in samples} == {name: 3, "\\ud800": 1}
    assert "autocron_jobs" not in families
