"""The subcommands: the pool at work, the next runs, the status; retry, cancel, stop."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from ..jobs import Job, now
from ..launch import tell, wait_for_end
from ..pool.wire import Frame, Kind
from .database import Database
from .output import coloured, console, local, printable, show_json, since, span, table

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY = 1.0  # seconds between looks of `top`
PATIENCE = 5.0  # seconds that the end of a running job is waited for
SOON = 5  # crons that `top` shows
EXIT = {"pass": 0, "warn": 1, "fail": 2}

_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")


def all_commands() -> dict[str, click.Command]:
    """The subcommands by their names."""
    return {command.name or "": command for command in (_top, _next, _status, _retry, _cancel, _stop)}


def _asked(context: click.Context, as_json: bool) -> Database:
    database: Database = context.obj
    database.as_json = database.as_json or as_json
    return database


def _document(database: Database) -> dict[str, Any]:
    from ..web import status

    return status.document(database.path, "full")


# -- top -------------------------------------------------------------------------------------------


@click.command("top")
@click.option("--once", is_flag=True, help="Show it once and end; also if the output is no terminal.")
@_json
@click.pass_context
def _top(context: click.Context, once: bool, as_json: bool) -> None:
    """Show the pool at work: workers, what each runs and since when, the next crons. Ctrl-C ends it."""
    database = _asked(context, as_json)
    database.open()
    if database.as_json:
        show_json(_document(database))
        return
    screen = console()
    if once or not screen.is_terminal:
        screen.print(_pool_at_work(_document(database)))
        return
    from rich.live import Live

    try:
        with Live(
            _pool_at_work(_document(database)), console=screen, screen=True, auto_refresh=False
        ) as live:
            while True:
                time.sleep(EVERY)
                live.update(_pool_at_work(_document(database)), refresh=True)
    except KeyboardInterrupt:
        pass  # its end


def _pool_at_work(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    pool = document["pool"]
    head = Text.assemble(coloured(document["status"]), "  ", _summary(pool))
    reasons = [Text(f"  {printable(reason['text'])}") for reason in document["reasons"]]
    template = pool["monitor"] and pool["monitor"]["template"]
    return Group(head, *reasons, _workers(pool["workers"], template), _crons(pool["crons"][:], SOON))


def _summary(pool: dict[str, Any]) -> str:
    jobs = pool["jobs"] or {}
    parts = [f"{jobs.get(state, 0)} {state}" for state in ("waiting", "running", "done", "error")]
    if pool["finished"]:
        parts.append(
            f"{sum(each['last_minute'] for each in pool['finished'].values())} ended in the last minute"
        )
    if pool["oldest_due_seconds"] >= 1:
        parts.append(f"the oldest waits for {span(pool['oldest_due_seconds'])}")
    return ", ".join(parts)


def _workers(workers: list[dict[str, Any]], template: int | None) -> RenderableType:
    shown = table("worker", "state", "for", "runs")
    if template is not None:
        shown.add_row(str(template), "template", "–", "no task: it has loaded the app and forks the workers")
    for worker in workers:
        job = worker["job"]
        what = f"{printable(job['task'])}\n{job['id']}" if job else ""
        if worker["beside"]:
            what += f"\nand {worker['beside']} more beside it"
        shown.add_row(
            str(worker["pid"]),
            coloured(worker["state"]),
            since(job["since"] if job else worker["started"]),
            what,
        )
    return shown


def _crons(crons: list[dict[str, Any]], most: int) -> RenderableType:
    """The crons by their next run; those of which none is known come last."""
    shown = table("next", "in", "last", "cron")
    crons = sorted(crons, key=lambda cron: (cron["next"] is None, cron["next"]))
    for cron in crons[:most]:
        pause = "–"
        if cron["next"] is not None:
            pause = span((datetime.fromisoformat(cron["next"]) - datetime.now(UTC)).total_seconds())
        words = f"{printable(cron['name'])}\n{printable(_in_words(cron))}"
        shown.add_row(local(cron["next"]), pause, local(cron["last"]), words)
    if len(crons) > most:
        shown.add_row("…", "", "", f"and {len(crons) - most} more")
    return shown


def _in_words(cron: dict[str, Any]) -> str:
    from ..errors import AutocronError
    from ..slots import schedule_of

    try:
        words = schedule_of(cron["schedule"], cron["zone"]).in_words()
    except (AutocronError, ValueError):  # written by something else
        return str(cron["schedule"])
    return words if cron["schedule"].startswith("every ") else f"{words} ({cron['zone']})"


# -- next, status ----------------------------------------------------------------------------------


@click.command("next")
@_json
@click.pass_context
def _next(context: click.Context, as_json: bool) -> None:
    """Show when each cron runs next, and what its schedule means."""
    database = _asked(context, as_json)
    database.open()
    pool = _document(database)["pool"]
    if database.as_json:
        show_json([{**cron, "in_words": _in_words(cron)} for cron in pool["crons"]])
        return
    if pool["monitor"] is None:
        click.echo("No pool runs, so nothing does. These are the crons that were seen so far:")
    console().print(_crons(pool["crons"], len(pool["crons"])))


@click.command("status")
@_json
@click.pass_context
def _status(context: click.Context, as_json: bool) -> None:
    """Say whether all is well, and what is not. Exit code: 0 for pass, 1 for warn, 2 for fail."""
    import os

    database = _asked(context, as_json)
    if not os.path.exists(database.path):
        database.open()  # says that there is none
    document = _document(database)
    if database.as_json:
        show_json(document)
    else:
        screen = console()
        screen.print(coloured(document["status"]), _summary(document["pool"]))
        for reason in document["reasons"]:
            screen.print(coloured(reason["status"]), f"{reason['code']}: {printable(reason['text'])}")
    context.exit(EXIT[document["status"]])


# -- what changes something ------------------------------------------------------------------------


def _found(database: Database, job_id: str) -> Job:
    job = database.store.get(job_id)
    if job is None:
        raise ConfigError(
            f"there is no job {job_id!r}: it never was, or it has been deleted; --results has the ids"
        )
    return job


@click.command("retry")
@click.argument("job_id", metavar="ID")
@_json
@click.pass_context
def _retry(context: click.Context, job_id: str, as_json: bool) -> None:
    """Let a job that has failed or was cancelled begin anew, now."""
    database = _asked(context, as_json)
    job = _found(database, job_id)
    if job.state not in ("error", "cancelled"):
        raise ConfigError(
            f"the job {job.id} is {job.state}: only what has failed or was cancelled begins anew"
        )
    if not database.store.retry(job.id, now()):
        raise ConfigError(
            f"the job {job.id} does not begin anew: another one with its unique key waits or runs"
        )
    pool = tell(database.path, Frame(Kind.WAKE), PATIENCE)
    _answer(database, job, "waiting", "waits again" if pool else "waits again, until a pool runs")


@click.command("cancel")
@click.argument("job_id", metavar="ID")
@_json
@click.pass_context
def _cancel(context: click.Context, job_id: str, as_json: bool) -> None:
    """Cancel a job that waits, or stop one that runs."""
    database = _asked(context, as_json)
    job = _found(database, job_id)
    deadline = time.monotonic() + PATIENCE
    while job.state in ("waiting", "running"):
        if database.store.cancel(job.id, now(), "cancelled on the command line"):
            job = job._replace(state="cancelled")
            break
        if tell(database.path, Frame(Kind.CANCEL, 0, {"id": job.id}), PATIENCE) is None:
            raise ConfigError(f"the job {job.id} is running, as the store says, but no pool runs: try again")
        if time.monotonic() > deadline:
            raise ConfigError(f"the job {job.id} is still running after {PATIENCE:g} s: look with top")
        time.sleep(0.05)
        job = _found(database, job.id)
    if job.state != "cancelled":
        raise ConfigError(f"the job {job.id} has ended already: it is {job.state}")
    _answer(database, job, "cancelled", "is cancelled")


@click.command("stop")
@click.option("--timeout", type=click.FloatRange(0), default=30.0, show_default=True, metavar="SECONDS")
@_json
@click.pass_context
def _stop(context: click.Context, timeout: float, as_json: bool) -> None:
    """End the pool, for all app processes, until the next start(). Running jobs have ten seconds to end."""
    database = _asked(context, as_json)
    pid = tell(database.path, Frame(Kind.END), PATIENCE)
    if pid is None:
        database.open()  # says if there is none, or what else is wrong with it
    ended = pid is None or wait_for_end(pid, time.monotonic() + timeout)
    if not ended:
        raise ConfigError(f"the pool (process {pid}) has not ended within {timeout:g} s: look with status")
    if database.as_json:
        show_json({"ended": pid})
    else:
        click.echo(
            "no pool runs" if pid is None else "the pool has ended; the next start() begins another one"
        )


def _answer(database: Database, job: Job, state: str, words: str) -> None:
    if database.as_json:
        show_json({"id": job.id, "task": job.task, "state": state})
    else:
        click.echo(f"{printable(job.task)} ({job.id}) {words}")
