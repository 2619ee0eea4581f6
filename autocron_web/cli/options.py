"""The options of the original: what is shown of a database, and its settings."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

import click

from ..errors import ConfigError
from ..jobs import FINISHED, RESULT_TTL, SECOND, Job
from ..launch import ask_monitor, tell, wait_for_end
from ..pool.wire import Frame, Kind
from ..settings import DEFAULT_WORKERS, LONGEST_TTL, MOST_WORKERS, StoreSettings
from .database import Database
from .output import coloured, console, local, printable, show_json, table

MOST = 100  # jobs that are listed
END = 30.0  # seconds that the end of a pool is waited for: it drains for 10
CHANGE = 3.0  # seconds that a change of a running pool is waited for

#: Settings of the original that nothing here needs; the sentence that says why.
_NEEDLESS = {
    "monitor-lock": ("FLAG", "there is one monitor for each database without it"),
    "blocking-mode": ("FLAG", "start() never blocks"),
    "worker-idle-time": ("SECONDS", "workers are woken up, and do not poll"),
    "monitor-idle-time": ("SECONDS", "the monitor is woken up, and does not poll"),
}


_DEFAULTS = {"max_workers": "what start() says", "autocron_lock": "off", "result_ttl": RESULT_TTL // SECOND}


def options() -> list[click.Parameter]:
    """The options of the group, with the names and short forms of autocron 1.2.2."""

    def flag(*names: str, text: str) -> click.Option:
        return click.Option(names, is_flag=True, help=text)

    shown = [
        flag("-i", "--info", text="Show settings and numbers of jobs."),
        flag("-t", "--tasks", text="Show what waits and what runs."),
        flag("-r", "--results", text="Show what has ended."),
        click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON, for scripts."),
        click.Option(
            ["--set-max-workers", "max_workers"], type=click.IntRange(1, MOST_WORKERS), metavar="NUMBER",
            help="Run so many workers, whatever start() asks for.",
        ),
        click.Option(
            ["--set-autocron-lock", "autocron_lock"], metavar="[on|off]",
            type=click.Choice(["on", "off", "true", "false"], case_sensitive=False),
            help="on: no pool is started, and calls run at once.",
        ),
        click.Option(
            ["--set-result-ttl", "result_ttl"], type=click.IntRange(0, LONGEST_TTL), metavar="SECONDS",
            help="Keep results so long, unless their task says otherwise.",
        ),
        flag("--set-defaults", text="Forget all of these settings."),
        flag("--delete-database", text="Delete the database, after a question."),
        flag("--yes", text="Do not ask."),
    ]  # fmt: skip
    needless = [
        click.Option([f"--set-{name}"], metavar=value, help="Accepted, and no longer needed.")
        for name, (value, _) in _NEEDLESS.items()
    ]
    return [*shown, *needless]


def run(**chosen: Any) -> None:
    """Do what the options say, in their order; then a subcommand may follow."""
    database: Database = click.get_current_context().obj
    for name, (_, why) in _NEEDLESS.items():
        if chosen[f"set_{name.replace('-', '_')}"] is not None:
            click.echo(f"--set-{name} is no longer needed: {why}")
    if chosen["set_defaults"]:
        _set(database, max_workers=None, autocron_lock=None, result_ttl=None)
    if chosen["max_workers"] is not None:
        _set(database, max_workers=str(chosen["max_workers"]))
    if chosen["result_ttl"] is not None:
        _set(database, result_ttl=str(chosen["result_ttl"]))
    if chosen["autocron_lock"] is not None:
        _set(database, autocron_lock="on" if chosen["autocron_lock"].lower() in ("on", "true") else None)
    for shown, show in (("info", _info), ("tasks", _tasks), ("results", _results)):
        if chosen[shown]:
            show(database)
    if chosen["delete_database"]:
        _delete(database, ask=not chosen["yes"])


# -- settings -----------------------------------------------------------------------------------------------


def _set(database: Database, **settings: str | None) -> None:
    """Store settings, tell the pool, and say what has come of it."""
    store = database.store
    with store.batch():
        for key, value in settings.items():
            store.set_setting(key, value)
    names = ", ".join(f"{key} is {value or _DEFAULTS[key]}" for key, value in settings.items())
    click.echo(f"{names}: {_applied(database)}")


def _applied(database: Database) -> str:
    """What a running pool makes of the settings that were just stored."""
    settings = StoreSettings.read(database.store.settings())
    pid = tell(database.path, Frame(Kind.SETTINGS), CHANGE)
    if pid is None:
        return "no pool runs; it holds from the next start on"
    if settings.autocron_lock:
        if wait_for_end(pid, time.monotonic() + END):
            return "the pool has ended; in processes that start now, calls run at once"
        return f"the pool (process {pid}) still ends its jobs"
    deadline = time.monotonic() + CHANGE
    while time.monotonic() < deadline:
        told = ask_monitor(database.path, CHANGE)
        if isinstance(told, dict) and settings.max_workers in (None, told["size"]):
            return f"the pool that runs keeps to it ({told['size']} workers)"
        time.sleep(0.05)
    return f"the pool (process {pid}) has not answered yet; look again with: autocron {database.path} status"


def _delete(database: Database, *, ask: bool) -> None:
    """Delete the files of the database. The lock file stays: it is what keeps pools apart."""
    from ..pool.lock import Lock

    path, store = database.path, database.store
    jobs = sum(store.counts().values())
    if others := store.other_tables():
        raise ConfigError(
            f"{path} also has tables of something else ({', '.join(others[:5])}): nothing is deleted"
        )
    if ask_monitor(path, CHANGE) is not None:
        raise ConfigError(f"a pool runs on {path}: end the app, or: autocron {path} stop")
    if ask:
        click.confirm(f"Delete {printable(path)} with its {jobs} jobs?", abort=True)
    database.close()
    lock = Lock(path + ".lock")
    if not lock.take():
        raise ConfigError(f"a pool has begun on {path}: end the app, or: autocron {path} stop")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)
    click.echo(f"{printable(path)} is deleted")


# -- what is shown ------------------------------------------------------------------------------------------


def _info(database: Database) -> None:
    store = database.store
    settings, counts = StoreSettings.read(store.settings()), store.counts()
    told = ask_monitor(database.path, CHANGE)
    running = isinstance(told, dict)
    if database.as_json:
        facts: dict[str, Any] = {
            "database": database.path, "settings": settings._asdict(), "jobs": counts,
            "bytes": store.size(), "pool": told["pid"] if isinstance(told, dict) else None,
        }  # fmt: skip
        show_json(facts)
        return
    size = f"{told['size']} workers, monitor {told['pid']}" if isinstance(told, dict) else "does not run"
    shown = table("setting", "value")
    for name, value in (
        ("database", database.path),
        ("max_workers", settings.max_workers or f"as start() says ({DEFAULT_WORKERS})"),
        ("autocron_lock", "on" if settings.autocron_lock else "off"),
        (
            "result_ttl",
            f"{settings.result_ttl if settings.result_ttl is not None else RESULT_TTL // SECOND} s",
        ),
        ("pool", size if running or told is None else "does not answer"),
        ("tasks", counts.get("waiting", 0) + counts.get("running", 0)),
        ("results", sum(counts.get(state, 0) for state in FINISHED)),
    ):
        shown.add_row(name, printable(value))
    console().print(shown)


def _tasks(database: Database) -> None:
    store = database.store
    jobs = [*store.jobs(state="running", limit=MOST), *store.jobs(state="waiting", limit=MOST)]
    jobs.sort(key=lambda job: (job.state != "running", job.due))
    _list(database, jobs, "due", ("waiting", "running"))


def _results(database: Database) -> None:
    jobs = [job for state in sorted(FINISHED) for job in database.store.jobs(state=state, limit=MOST)]
    jobs.sort(key=lambda job: job.finished or 0, reverse=True)
    _list(database, jobs[:MOST], "ended", tuple(FINISHED))


def _list(database: Database, jobs: list[Job], heading: str, states: tuple[str, ...]) -> None:
    if database.as_json:
        show_json([_plain(job) for job in jobs])
        return
    shown = table(heading, "state", "job")
    for job in jobs:
        moment = job.due if job.finished is None else job.finished
        lines = [printable(job.task), job.id, *_outcome(job)]
        shown.add_row(local(_iso(moment)), coloured(job.state), "\n".join(lines))
    console().print(shown)
    counts = database.store.counts()
    if (all_of_them := sum(counts.get(state, 0) for state in states)) > len(jobs):
        click.echo(f"{len(jobs)} of {all_of_them}")


def _outcome(job: Job) -> list[str]:
    """How it ended, or why it waits, in one line."""
    if job.state == "done" and job.result is not None:
        return [printable(job.result[:200].decode(errors="replace"))]
    text = (job.error or "").strip().splitlines()[-1:] or ([job.reason] if job.reason else [])
    return [printable(line[:200]) for line in text]


def _plain(job: Job) -> dict[str, Any]:
    """A job for scripts: without its arguments, which may be secrets."""
    return {
        "id": job.id, "task": job.task, "state": job.state, "reason": job.reason, "due": _iso(job.due),
        "created": _iso(job.created), "started": job.started and _iso(job.started),
        "finished": job.finished and _iso(job.finished), "attempt": job.attempt, "queue": job.queue,
        "priority": job.priority, "error_type": job.error_type, "error": job.error, "result": _result(job),
    }  # fmt: skip


def _result(job: Job) -> Any:
    """As it is stored: what has a tag keeps it."""
    if job.result is None or job.codec != "json":
        return None
    try:
        return json.loads(job.result)
    except (ValueError, RecursionError):
        return None


def _iso(microseconds: int) -> str:
    from ..web.verdict import moment_of

    return moment_of(microseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
