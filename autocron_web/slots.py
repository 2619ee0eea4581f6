"""Which slot of a schedule is to run now, which were missed, and when to look again. Pure."""

from __future__ import annotations

import math
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from .crontab import PUNCTUAL, Crontab, Missed, Schedule
from .errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime


class Every:
    """Slots at the multiples of a number of seconds since 1970-01-01 UTC, the same in every process.

    Raises `ConfigError` for a number that is not 1 or more.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds < 1e9:
            raise ConfigError(f"seconds is {seconds!r}: give a number of seconds, 1 or more")
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"<Every {self.seconds:g} s>"

    @property
    def canonical(self) -> str:
        return f"every {self.seconds!r}"

    @property
    def zone_name(self) -> str:
        return "UTC"

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`, which must be aware."""
        from datetime import datetime

        number = math.floor(moment.timestamp() / self.seconds) + 1
        return datetime.fromtimestamp(number * self.seconds, UTC)


def schedule_of(canonical: str, zone_name: str) -> Schedule:
    """The schedule that has this canonical text and zone."""
    kind, _, seconds = canonical.partition(" ")
    if kind == "every":
        return Every(float(seconds))
    return Crontab.parse(canonical, order="unix", tz=zone_name)


class Due(NamedTuple):
    """The slot that is to run now, if any, and the one after."""

    slot: datetime | None
    following: datetime


def due_slot(
    schedule: Schedule, *, last_slot: datetime, now: datetime, missed: Missed, catch_up: float
) -> Due:
    """What to do at `now` if `last_slot` was the last slot that ran, or when the cron was first seen.

    Of slots that were missed only the latest runs: with "once" if it is not older than `catch_up`
    seconds, with "skip" only if it is no more than `PUNCTUAL` seconds old. A clock that was set back
    lets no slot run twice: the next one is that after `last_slot`.
    """
    from datetime import timedelta

    patience = PUNCTUAL if missed == "skip" else max(catch_up, PUNCTUAL)
    slot = schedule.next_after(max(last_slot, now - timedelta(seconds=patience)))
    if slot > now:
        return Due(None, slot)
    while (following := schedule.next_after(slot)) <= now:
        slot = following
    return Due(slot, following)
