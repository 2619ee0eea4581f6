"""The status of a pool for HTTP: what `front` and whoever else mounts it, whatever the framework.

    answer(source, level, max_age=60)   GET /autocron/status    pass and warn are 200, fail is 503
    ready_answer(source)                GET /autocron/ready     503 only if this process cannot store a job
    metrics_answer(source, max_age=60)  GET /autocron/metrics   for Prometheus; with the rights of "full"

`source` is the app's engine (`autocron_web.engine.engine`), or the absolute path of a database. Each returns
the HTTP status, the content type and the body. None of them raises, and none takes longer than a second; an
event loop calls them in a thread: `await asyncio.to_thread(answer, engine)`.

`level` is what the one who asks may know; whoever mounts this decides it:

    "none"    the status word alone
    "full"    monitor, workers and what they run, numbers of jobs, ages, crons, errors by their types
    "detail"  also arguments, output and tracebacks, redacted

The document is `application/health+json` (draft-inadarei-api-health-check-06), its schema is
docs/status.schema.json, and docs/status.md says what each reason means.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from ..jobs import Job, now
from ..tasks import registry
from . import redact
from .facts import DETAIL, FULL, VERDICT, Facts, Subject, age, watch
from .redact import without_folders
from .verdict import MAX_AGE, Reason, in_short, last_run, moment_of, reasons, status_of

if TYPE_CHECKING:
    from ..engine import Engine

Level = Literal["none", "full", "detail"]
LOCKED = 5.0  # seconds that somebody may hold the store: then calls raise `StoreBusy`

_DEPTHS = {"none": VERDICT, "full": FULL, "detail": DETAIL}


#: An HTTP status, a content type, a body.
Answer = tuple[int, str, bytes]


def answer(
    source: Engine | str | os.PathLike[str], level: Level = "none", *, max_age: float = MAX_AGE
) -> Answer:
    """The answer to `GET /autocron/status`.

    max_age: seconds that a job may be due before the queue counts as stuck.
    """
    found = document(source, level, max_age=max_age)
    return _answer(503 if found["status"] == "fail" else 200, found)


def ready_answer(source: Engine | str | os.PathLike[str]) -> Answer:
    """The answer to `GET /autocron/ready`: 503 only if this process cannot store a job."""
    found = ready(source)
    return _answer(503 if found["status"] == "fail" else 200, {"status": found["status"]})


def metrics_answer(source: Engine | str | os.PathLike[str], *, max_age: float = MAX_AGE) -> Answer:
    """The answer to `GET /autocron/metrics`, in Prometheus' text format: always 200."""
    from .metrics import text

    body = text(document(source, "full", max_age=max_age))
    return 200, "text/plain; version=0.0.4; charset=utf-8", body.encode()


def ready(source: Engine | str | os.PathLike[str]) -> dict[str, Any]:
    """`status` is `pass` or `fail`, `output` says why."""
    subject = Subject.of(source)
    if subject.path is None:
        good = subject.code in ("inline", "locked")
        return {"status": "pass" if good else "fail", "output": subject.trouble}
    looked = watch(subject.path)
    store = looked.facts(VERDICT).store
    if store.code in ("", "store_slow"):
        return {"status": "pass", "output": ""}
    if store.code == "store_locked" and not looked.locked_for(LOCKED):
        return {"status": "pass", "output": store.trouble}  # a call waits as long for it
    return {"status": "fail", "output": store.trouble}


def document(
    source: Engine | str | os.PathLike[str], level: Level = "none", *, max_age: float = MAX_AGE
) -> dict[str, Any]:
    """The document as a dict, for those who send it in their own way."""
    subject = Subject.of(source)
    if subject.path is None:
        return _without_store(subject, level)
    facts = watch(subject.path).facts(_DEPTHS[level])
    found = reasons(facts, max_age)
    if level == "none":
        return {"status": status_of(found)}
    found = [reason._replace(text=without_folders(reason.text)) for reason in found]
    pool = _pool(facts, detail=level == "detail")
    return {**_head(found), "time": _iso(facts.moment), "checks": _checks(facts, found), "pool": pool}


def _without_store(subject: Subject, level: Level) -> dict[str, Any]:
    status: dict[str, Literal["pass", "warn", "fail"]] = {"inline": "pass", "locked": "warn"}
    reason = Reason(status.get(subject.code, "fail"), subject.code, without_folders(subject.trouble))
    if level == "none":
        return {"status": reason.status}
    return {**_head([reason]), "time": _iso(now()), "checks": {}, "pool": None}


def _head(found: list[Reason]) -> dict[str, Any]:
    return {
        "status": status_of(found),
        "version": "1",  # of this document
        "releaseId": __version__,
        "serviceId": "autocron-web",
        "output": found[0].text if found and found[0].status != "pass" else "",
        "reasons": [reason._asdict() for reason in found],
    }


# -- the parts of the full document -----------------------------------------------------------------------

#: Which reasons belong to which check of the document.
_CHECKS: dict[str, Callable[[str], bool]] = {
    "store:writable": lambda code: code.startswith("store_"),
    "monitor:alive": lambda code: code in ("no_monitor", "monitor_silent", "ending", "no_app", "locked"),
    "workers:ready": lambda code: code in ("no_worker", "worker_trouble", "loading"),
    "queue:oldest_due": lambda code: code in ("queue_stuck", "unknown_task"),
    "crons:on_time": lambda code: code == "cron_overdue",
}


def _checks(facts: Facts, found: list[Reason]) -> dict[str, list[dict[str, Any]]]:
    observed: dict[str, Any] = {}
    monitor = facts.monitor
    if monitor is not None:
        working = [worker for worker in monitor["workers"] if worker["state"] in ("ready", "running")]
        observed["workers:ready"] = {"observedValue": len(working), "observedUnit": "workers"}
    observed["queue:oldest_due"] = {"observedValue": _oldest_due(facts), "observedUnit": "s"}
    checks = {}
    for name, covers in _CHECKS.items():
        own = [reason for reason in found if covers(reason.code)]
        check = {"componentType": "component", "status": status_of(own), "time": _iso(facts.moment)}
        check.update(observed.get(name, {}))
        if own:
            check["output"] = own[0].text
        checks[name] = [check]
    return checks


def _pool(facts: Facts, *, detail: bool) -> dict[str, Any]:
    monitor, store = facts.monitor, facts.store
    counts = store.counts
    running = {job.id: job for job in store.running} if detail else {}
    return {
        "monitor": monitor and _monitor(monitor, detail=detail),
        "apps": [app["pid"] for app in monitor["apps"]] if monitor else [],
        "workers": [_worker(worker, running) for worker in monitor["workers"]] if monitor else [],
        "finished": monitor["finished"] if monitor else None,
        "jobs": None if counts is None else {state: counts.get(state, 0) for state in _STATES},
        "oldest_due_seconds": _oldest_due(facts),
        "unknown_tasks": store.unknown,
        "failures": [_failure(job, detail=detail) for job in store.failed],
        "crons": _crons(facts),
        "store": {"bytes": store.size, "wal_bytes": store.wal_size},
    }


_STATES = ("waiting", "running", "done", "error", "cancelled")


def _monitor(monitor: dict[str, Any], *, detail: bool) -> dict[str, Any]:
    words = ("pid", "version", "epoch", "accepting", "ending", "template")
    trouble = monitor["trouble"] if detail else monitor["trouble"] and in_short(monitor["trouble"])
    return {
        **{word: monitor[word] for word in words},
        "started": _iso(monitor["started"]),
        "workers_wanted": monitor["size"],
        "no_template": redact.text(monitor["no_template"]),
        "trouble": redact.text(trouble),
    }


def _worker(worker: dict[str, Any], running: dict[str, Job]) -> dict[str, Any]:
    job = worker["job"] and {**worker["job"], "since": _iso(worker["job"]["since"])}
    if job and job["id"] in running:
        job["arguments"] = _arguments(running[job["id"]])
    return {
        "pid": worker["pid"],
        "state": worker["state"],
        "retiring": worker["retiring"],
        "started": _iso(worker["started"]),
        "job": job,
        "beside": worker["beside"],
    }


def _failure(job: Job, *, detail: bool) -> dict[str, Any]:
    shown = {
        "id": job.id,
        "task": job.task,
        "attempt": job.attempt,
        "finished": _iso(job.finished or 0),
        "error_type": job.error_type,
    }
    if detail:
        shown |= {
            "arguments": _arguments(job),
            "error": redact.text(job.error),
            "output": redact.text(job.output),
        }
    return shown


def _arguments(job: Job) -> Any:
    """Positional ones by their names, where this process knows the task."""
    import inspect

    task = registry.get(job.task)
    if task is None:
        return redact.arguments(job.payload, job.codec, [])
    names = list(inspect.signature(task.function).parameters)
    return redact.arguments(job.payload, job.codec, names, task.defaults.secret_args)


def _crons(facts: Facts) -> list[dict[str, Any]]:
    """Those that the pool runs; without a pool, those that the store has seen."""
    rows = {row.name: row for row in facts.store.crons}
    if facts.monitor is not None:
        shown = [
            (cron["name"], cron["schedule"], cron["zone"], cron["next"]) for cron in facts.monitor["crons"]
        ]
    else:
        shown = [(row.name, row.schedule, row.zone, None) for row in rows.values()]
    return [
        {
            "name": name,
            "schedule": schedule,
            "zone": zone,
            "next": None if following is None else _iso(following),
            "last": _last(rows.get(name)),
        }
        for name, schedule, zone, following in shown
    ]


def _last(row: Any) -> str | None:
    last = None if row is None else last_run(row)
    return None if last is None else _iso(last)


def _oldest_due(facts: Facts) -> float:
    due = facts.store.next_due
    return 0.0 if due is None else round(max(0.0, age(facts.moment, due)), 3)


def _iso(microseconds: int) -> str:
    return moment_of(microseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _answer(status: int, found: dict[str, Any]) -> Answer:
    return status, "application/health+json", (json.dumps(found) + "\n").encode()
