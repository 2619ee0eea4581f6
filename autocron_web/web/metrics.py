"""The full status document in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

_STATES = ("loading", "ready", "running", "retiring")

Sample = tuple[dict[str, str], float]


def text(document: dict[str, Any]) -> str:
    """The metrics of `status.document(…, "full")`. What is not known at the moment is left out."""
    pool: dict[str, Any] = document["pool"] or {}
    monitor, crons = pool.get("monitor"), pool.get("crons", [])
    workers = [worker["state"] for worker in pool.get("workers", [])]
    families = [
        _family("autocron_up", "gauge", "1 unless the status is fail.", [({}, document["status"] != "fail")]),
        _family(
            "autocron_reason", "gauge", "Reasons why the status is no pass.",
            [({"code": code, "status": status}, 1) for code, status in _reasons(document)],
        ),
        _family("autocron_jobs", "gauge", "Jobs in the store.", _by("state", pool.get("jobs") or {})),
        _family(
            "autocron_oldest_due_seconds", "gauge", "For how long the oldest due job has waited.",
            [({}, pool["oldest_due_seconds"])] if pool else [],
        ),
        _family(
            "autocron_unknown_task_jobs", "gauge", "Jobs that wait for code which knows their task.",
            _by("task", pool.get("unknown_tasks", {})),
        ),
        _family(
            "autocron_workers", "gauge", "Worker processes.",
            [({"state": state}, workers.count(state)) for state in _STATES] if monitor else [],
        ),
        _family(
            "autocron_workers_wanted", "gauge", "How many there are to be.",
            [({}, monitor["workers_wanted"])] if monitor else [],
        ),
        _family(
            "autocron_app_processes", "gauge", "App processes that hold the pool.",
            [({}, len(pool["apps"]))] if monitor else [],
        ),
        _family(
            "autocron_jobs_finished_total", "counter", "Jobs that ended since the monitor began.",
            [({"state": state}, number["total"]) for state, number in (pool.get("finished") or {}).items()],
        ),
        _family(
            "autocron_cron_last_run_timestamp_seconds", "gauge", "The slot that ran last.",
            [({"cron": cron["name"]}, _seconds(cron["last"])) for cron in crons if cron["last"]],
        ),
        _family(
            "autocron_cron_next_run_timestamp_seconds", "gauge", "The slot that comes next.",
            [({"cron": cron["name"]}, _seconds(cron["next"])) for cron in crons if cron["next"]],
        ),
        _family(
            "autocron_store_bytes", "gauge", "The size of the store.",
            [({}, pool["store"]["bytes"])] if pool and pool["store"]["bytes"] is not None else [],
        ),
        _family(
            "autocron_store_wal_bytes", "gauge", "The size of SQLite's WAL, which a long read lets grow.",
            [({}, pool["store"]["wal_bytes"])] if pool and pool["store"]["wal_bytes"] is not None else [],
        ),
    ]  # fmt: skip
    return "".join(families)


def _reasons(document: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted({(reason["code"], reason["status"]) for reason in document["reasons"]})


def _by(label: str, numbers: dict[str, int]) -> list[Sample]:
    return [({label: value}, number) for value, number in numbers.items()]


def _family(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{_labels(labels)} {float(value):.15g}\n" for labels, value in samples]
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n{''.join(lines)}" if lines else ""


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """A label may hold any UTF-8 but these three; a lone surrogate has no UTF-8."""
    value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value.encode("utf-8", "backslashreplace").decode()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
