"""The crons of the app: takes each slot when it is due, once, whoever else may try."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..jobs import SECOND, Job, new_id, now
from ..store import Store
from ..tasks import Cron
from .loop import Loop, Timer
from .storethread import StoreThread

if TYPE_CHECKING:
    from ..crontab import Schedule

LONGEST_SLEEP = 60.0  # seconds: then the wall clock is asked again, in case it was set


class Entry:
    """One cron and its next slot."""

    def __init__(self, cron: Cron, schedule: Schedule, last_slot: int) -> None:
        self.cron = cron
        self.schedule = schedule
        self.last_slot = last_slot
        self.timer: Timer | None = None


class Timetable:
    """One timer for each cron that the workers have loaded."""

    def __init__(self, loop: Loop, store: StoreThread, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._store = store
        self._wake = wake
        self._crons: dict[str, Cron] = {}
        self._entries: dict[str, Entry] = {}

    def learn(self, rows: list[list[Any]]) -> None:
        """These are the crons of the app now. Those that are gone from the code do not run any more."""
        crons = {cron.task: cron for cron in (Cron(*row) for row in rows)}
        if crons == self._crons:
            return
        self._crons = crons
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        self._entries = {}
        for cron in crons.values():
            self._see(cron)

    def _see(self, cron: Cron) -> None:
        from ..crontab import Crontab

        schedule = Crontab.parse(cron.expression, order=cron.order, tz=cron.zone)  # type: ignore[arg-type]
        moment = now()

        def see(store: Store) -> int:
            return store.see_cron(cron.task, schedule.canonical, cron.zone or "", moment)

        def seen(last_slot: int) -> None:
            if self._crons.get(cron.task) is cron:
                self._entries[cron.task] = Entry(cron, schedule, last_slot)
                self._look(self._entries[cron.task])

        self._store.ask(see, seen)

    def _look(self, entry: Entry) -> None:
        """Take the slot that is due, if one is, and set the timer for the next one."""
        from ..crontab import due_slot

        if self._entries.get(entry.cron.task) is not entry:
            return
        moment = now()
        slot, following = due_slot(
            entry.schedule,
            last_slot=_date(entry.last_slot),
            now=_date(moment),
            missed=entry.cron.missed,  # type: ignore[arg-type]
            catch_up=entry.cron.catch_up,
        )
        if slot is not None:
            self._take(entry, _micro(slot), moment)
        pause = (_micro(following) - moment) / SECOND
        entry.timer = self._loop.after(min(max(pause, 0.001), LONGEST_SLEEP), lambda: self._look(entry))

    def _take(self, entry: Entry, slot: int, moment: int) -> None:
        entry.last_slot = max(entry.last_slot, slot)
        job = Job(id=new_id(), task=entry.cron.task, due=slot, created=moment, kind="cron", payload=_NOTHING)
        self._store.ask(
            lambda store: store.take_slot(job.task, slot, job), lambda taken: self._wake() if taken else None
        )


def _no_arguments() -> bytes:
    from ..codec import dump_call

    return dump_call((), {})


_NOTHING = _no_arguments()


def _date(microseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(microseconds / SECOND, datetime.UTC)


def _micro(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * SECOND)
