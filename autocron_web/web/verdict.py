"""What the facts mean: `pass`, `warn` or `fail`, and why. Pure: facts and clock are arguments."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from ..crontab import Missed
from ..errors import AutocronError
from ..jobs import SECOND
from ..slots import late_from, schedule_of
from ..store import CronRow
from .facts import SILENT, Facts, age

Status = Literal["pass", "warn", "fail"]

MAX_AGE = 60.0  # seconds that a job may be due before the queue counts as stuck
NAMED = 5  # unknown tasks that are named
GRACE = 60.0  # seconds that a cron may be late, beside its own interval

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reason(NamedTuple):
    """Why the status is no `pass`."""

    status: Status
    code: str  # for machines: docs/status.md lists them
    text: str  # for people


def reasons(facts: Facts, max_age: float) -> list[Reason]:
    """All that is wrong, the worst first."""
    found = list(_of_store(facts))
    if facts.store.locked:  # on purpose
        found.append(
            Reason("warn", "locked", "the store is locked: calls run at once, and no pool is started")
        )
    else:
        found += _of_pool(facts, max_age)
        found += _of_queue(facts, max_age)
        found += _of_crons(facts)
    return sorted(found, key=lambda reason: reason.status != "fail")


def status_of(found: list[Reason]) -> Status:
    """The worst of them."""
    return found[0].status if found else "pass"


def _of_store(facts: Facts) -> Iterator[Reason]:
    store, monitor = facts.store, facts.monitor
    if store.code == "store_slow":
        text = f"the store has not answered for {facts.store_waited:.1f} s"
        yield Reason("fail" if facts.store_waited > SILENT else "warn", store.code, text)
    elif store.code:
        yield Reason("fail", store.code, store.trouble)
    elif monitor is not None and monitor["store_trouble"]:
        yield Reason(
            "fail", "store_unusable", f"the monitor cannot use the store: {monitor['store_trouble']}"
        )


def _of_pool(facts: Facts, max_age: float) -> Iterator[Reason]:
    monitor = facts.monitor
    if monitor is None:
        if facts.silent is None:
            yield Reason("fail", "no_monitor", "no monitor runs, so no job does: is an app process running?")
        elif facts.silent == float("inf"):
            yield Reason("fail", "monitor_silent", "the monitor is stopped (SIGSTOP): continue or end it")
        else:
            text = f"the monitor has not answered for {facts.silent:.1f} s"
            yield Reason("fail" if facts.silent > SILENT else "warn", "monitor_silent", text)
        return
    if monitor["ending"]:
        yield Reason("warn", "ending", f"the pool is ending: {monitor['ending']}")
    elif not monitor["accepting"]:
        yield Reason("warn", "no_app", "no app process is left, so the pool takes no more jobs and ends soon")
    yield from _of_workers(monitor, facts.moment, max_age)


def _of_workers(monitor: dict[str, Any], moment: int, max_age: float) -> Iterator[Reason]:
    if monitor["pause"]:
        yield Reason("warn", "pausing", monitor["pause"])
        return
    workers, trouble = monitor["workers"], monitor["trouble"]
    if any(worker["state"] in ("ready", "running") for worker in workers):
        if trouble:
            yield Reason("warn", "worker_trouble", in_short(trouble))
    elif trouble:
        yield Reason("fail", "no_worker", f"no worker can load the app: {in_short(trouble)}")
    elif monitor["apps"] and not monitor["ending"]:
        since = min((worker["started"] for worker in workers), default=moment)
        loading = age(moment, since)
        text = f"no worker is ready, and the app has been loading for {loading:.0f} s"
        yield Reason("fail" if loading > max_age else "warn", "loading", text)


def _of_queue(facts: Facts, max_age: float) -> Iterator[Reason]:
    due = facts.store.next_due
    if due is not None and age(facts.moment, due) > max_age:
        text = f"the oldest due job has waited for {age(facts.moment, due):.0f} s, longer than {max_age:g} s"
        yield Reason("fail", "queue_stuck", text)
    if unknown := facts.store.unknown:
        names = ", ".join(sorted(unknown)[:NAMED]) + (" …" if len(unknown) > NAMED else "")
        text = f"no worker knows {names}: {sum(unknown.values())} jobs wait for newer code"
        yield Reason("warn", "unknown_task", text)


def _of_crons(facts: Facts) -> Iterator[Reason]:
    """Only of those that the pool runs: what is gone from the code is late for ever."""
    if facts.monitor is None:
        return
    rows = {row.name: row for row in facts.store.crons}
    started = facts.monitor["started"]
    for cron in facts.monitor["crons"]:
        row = rows.get(cron["name"])
        if row is not None:
            slot = _late_from(
                cron["schedule"], cron["zone"], row.last_slot, started, cron["missed"], cron["catch_up"]
            )
            late = (moment_of(facts.moment) - slot).total_seconds()
            if late > GRACE:
                text = f"the cron {row.name} is overdue by its interval and {late:.0f} s"
                yield Reason("fail", "cron_overdue", text)


# Both are asked at each look, would cost a millisecond each, and have another answer when the cron has run.


@functools.lru_cache(maxsize=4096)
def _late_from(
    schedule: str, zone: str, last_slot: int, since: int, missed: Missed, catch_up: float
) -> datetime:
    return late_from(
        schedule_of(schedule, zone),
        last_slot=moment_of(last_slot),
        since=moment_of(since),
        missed=missed,
        catch_up=catch_up,
    )


@functools.lru_cache(maxsize=4096)
def last_run(row: CronRow) -> int | None:
    """When the cron ran last (microseconds), or None if it never did: its row begins with another moment."""
    if row.last_slot <= row.created + 1:  # one more: `start_now`
        return row.created if row.last_slot > row.created else None
    try:
        slot = schedule_of(row.schedule, row.zone).next_after(moment_of(row.last_slot - 1))
    except (AutocronError, ValueError, OverflowError):
        return None  # a row that autocron-web did not write
    return row.last_slot if slot == moment_of(row.last_slot) else None


def in_short(trouble: str) -> str:
    """A sentence and its traceback as the sentence and the exception; the app's log has all of it."""
    first, *lines = trouble.strip().splitlines()
    last = [line for line in lines if line[:1] not in (" ", "(", "\t", "")]
    return f"{first}: {last[-1]}" if last else first


def moment_of(microseconds: int) -> datetime:
    """As a datetime in UTC; what a damaged row may hold becomes the nearest that there is."""
    return _EPOCH + timedelta(microseconds=min(max(microseconds, 0), 30_000_000_000 * SECOND))
