"""The crons of the app: takes each slot when it is due, once, whoever else may try."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from ..checks import is_span
from ..crontab import Crontab
from ..decorators import Cron
from ..errors import AutocronError, ConfigError
from ..jobs import SECOND, latest_slot, now
from ..options import Options
from ..slots import due_slot, schedule_of, slot_job
from ..timezones import zone_of
from .loop import Loop, Timer
from .storethread import StoreThread

LONGEST_SLEEP = 60.0  # seconds: then the wall clock is asked again, in case it was set


class Entry:
    """One cron, the slot that was taken last, and the timer of the next one."""

    def __init__(self, cron: Cron, options: Options, last_slot: int) -> None:
        self.cron = cron
        self.options = options
        self.last_slot = last_slot
        self.following: int | None = None  # the slot that is waited for
        self.timer: Timer | None = None


class Timetable:
    """One timer for each cron that the workers have loaded."""

    def __init__(
        self, loop: Loop, store: StoreThread, wake: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._store = store
        self._wake = wake
        self._say = say
        self._rows: dict[str, list[Any]] = {}
        self._entries: dict[str, Entry] = {}

    def learn(self, rows: list[list[Any]]) -> None:
        """These are the crons of the app now. Those that are gone from the code do not run any more."""
        known = {row[0]: row for row in rows}
        if known == self._rows:
            return
        self._rows = known
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        self._entries = {}
        for row in rows:
            self._loop.guard(lambda row=row: self._learn(row))  # type: ignore[misc]

    def _learn(self, row: list[Any]) -> None:
        try:
            cron, options = understood(row, self._say)
        except (AutocronError, TypeError, ValueError, OverflowError) as error:
            self._say(f"the cron {row[0]} does not run: the pool cannot understand it ({error})")
            return
        self._see(row, cron, options)
        if cron.doubtful is not None:
            self._say(_doubt(cron, _date(now())))

    @property
    def entries(self) -> list[Entry]:
        """The crons that run here."""
        return list(self._entries.values())

    def _see(self, row: list[Any], cron: Cron, options: Options) -> None:
        """Ask the store which slot was the last one, and go on from there."""
        name, schedule = cron.task, cron.schedule
        moment = now()

        def seen(last_slot: int) -> None:
            if self._rows.get(name) is not row:
                return  # newer code has come in between
            entry = self._entries[name] = Entry(cron, options, last_slot)
            if cron.start_now and last_slot == moment:
                self._take(entry, moment + 1)
            self._look(entry)

        canonical, zone = schedule.canonical, schedule.zone_name
        self._store.ask(lambda store: store.see_cron(name, canonical, zone, moment), seen)

    def _look(self, entry: Entry) -> None:
        """Take the slot that is due, if one is, and set the timer for the next one."""
        if self._entries.get(entry.cron.task) is not entry:
            return
        cron, moment = entry.cron, now()
        if entry.last_slot > latest_slot(moment):
            self._say(f"the cron {cron.task} ran by a clock that was ahead: it goes on from now")
            self._see(self._rows[cron.task], cron, entry.options)
            return
        due = due_slot(
            cron.schedule,
            last_slot=_date(entry.last_slot),
            now=_date(moment),
            missed=cron.missed,
            catch_up=cron.catch_up,
        )
        if due.slot is not None:
            self._take(entry, _micro(due.slot))
        entry.following = _micro(due.following)
        pause = (entry.following - moment) / SECOND
        entry.timer = self._loop.after(min(max(pause, 0.001), LONGEST_SLEEP), lambda: self._look(entry))

    def _take(self, entry: Entry, slot: int) -> None:
        """Store the slot's job, unless another monitor has taken the slot."""
        entry.last_slot = max(entry.last_slot, slot)
        name, job = entry.cron.task, slot_job(entry.cron, entry.options, slot)
        self._store.ask(
            lambda store: store.take_slot(name, slot, job), lambda taken: self._wake() if taken else None
        )


def understood(row: list[Any], say: Callable[[str], None]) -> tuple[Cron, Options]:
    """The cron and its options from what a worker has told of it. Raises what is wrong with them.

    A zone that the worker knows and this process does not (its tz database may lie where only the app
    looks) is UTC here, and `say` tells.
    """
    name, canonical, zone, options, missed, catch_up, overlap, start_now, doubtful = row
    texts = canonical, zone, *([] if doubtful is None else [doubtful])
    words = missed in ("once", "skip") and overlap in ("skip", "allow") and isinstance(start_now, bool)
    if not words or not is_span(catch_up) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{row[1:3] + row[4:]}")
    try:
        zone_of(zone)
    except ConfigError as error:
        zone = "UTC"
        say(f"the cron {name} runs by UTC: {error}")
    schedule = schedule_of(canonical, zone)
    cron = Cron(name, schedule, missed, catch_up, overlap, start_now, doubtful)
    return cron, Options(*options).changed()


def _doubt(cron: Cron, moment: datetime.datetime) -> str:
    """What a crontab means that could be meant otherwise."""
    assert isinstance(cron.schedule, Crontab)
    runs = []
    for _ in range(3):
        moment = cron.schedule.next_after(moment)
        runs.append(f"{moment:%a %d %b %Y %H:%M}")
    return (
        f"the cron {cron.task} {cron.doubtful!r} is read as minutes, hours, days of the week (0 is Monday),"
        f" months, days: {cron.schedule.in_words()}; next on {', '.join(runs)}. If that is meant, add"
        " order='autocron'; if it is in the order of crontab(5), write unix= before it"
    )


def _date(microseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(microseconds / SECOND, datetime.UTC)


def _micro(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * SECOND)
