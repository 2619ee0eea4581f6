"""Which slot of a schedule is to run now, which were missed, when to look again; and a slot's job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from .checks import short
from .crontab import Crontab, Missed, Schedule
from .errors import ConfigError
from .jobs import Job, now, uuid7

if TYPE_CHECKING:
    from .decorators import Cron
    from .options import Options

#: Seconds after which a slot that nobody took counts as missed.
PUNCTUAL = 60.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Every:
    """Slots at the multiples of a number of seconds since 1970-01-01 UTC, the same in every process.

    Raises `ConfigError` for a number that is less than 1.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds < 1e9:
            raise ConfigError(
                f"seconds is {short(seconds)}: give a number of seconds, 1 or more, up to 30 years"
            )
        self._period = timedelta(seconds=seconds)  # whole microseconds: multiples of a float would drift

    def __repr__(self) -> str:
        return f"<Every {self._seconds} s>"

    @property
    def _seconds(self) -> str:
        text = f"{self._period.total_seconds():.6f}"
        return text.rstrip("0").rstrip(".")

    @property
    def canonical(self) -> str:
        return f"every {self._seconds}"

    @property
    def zone_name(self) -> str:
        return "UTC"

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`, which must be aware."""
        return _EPOCH + ((moment - _EPOCH) // self._period + 1) * self._period

    def in_words(self) -> str:
        return f"every {self._seconds} seconds"


def schedule_of(canonical: str, zone_name: str) -> Schedule:
    """The schedule that has this canonical text and zone."""
    kind, _, seconds = canonical.partition(" ")
    if kind == "every":
        return Every(float(seconds))
    return Crontab.parse(canonical, order="unix", tz=zone_name)


class Due(NamedTuple):
    """The slot that is to run now, if any, and the one after; in UTC."""

    slot: datetime | None
    following: datetime


def due_slot(
    schedule: Schedule,
    *,
    last_slot: datetime,
    now: datetime,
    missed: Missed = "once",
    catch_up: float = 3600.0,
) -> Due:
    """What to do at `now` if `last_slot` was the last slot that ran, or when the cron was first seen.

    Of slots that were missed only the latest runs: with "once" if it is not older than `catch_up`
    seconds, with "skip" only if it is no more than `PUNCTUAL` seconds old. A clock that was set back
    lets no slot run twice: the next one is that after `last_slot`.
    """

    def after(moment: datetime) -> datetime:
        # in UTC: sums and differences within another zone are those of its clock
        return schedule.next_after(moment).astimezone(UTC)

    now, since = now.astimezone(UTC), last_slot.astimezone(UTC)
    patience = PUNCTUAL if missed == "skip" else max(catch_up, PUNCTUAL)
    if (now - since).total_seconds() > patience:
        since = now - timedelta(seconds=patience, microseconds=1)  # so that a slot of just this age counts
    slot = after(since)
    if slot > now:
        return Due(None, slot)
    following = after(slot)
    if following <= now:
        slot, following = _latest(after, following, now), after(now)
    return Due(slot, following)


def late_from(
    schedule: Schedule, *, last_slot: datetime, since: datetime, missed: Missed, catch_up: float
) -> datetime:
    """The moment at which the first slot after `last_slot` is late by its own interval, if nobody takes it.

    `since` is when somebody began to look after it: what had been missed for good by then does not count.
    """

    def after(moment: datetime) -> datetime:
        return schedule.next_after(moment).astimezone(UTC)

    patience = PUNCTUAL if missed == "skip" else max(catch_up, PUNCTUAL)
    slot = after(max(last_slot, since - timedelta(seconds=patience)))
    return after(slot)


def _latest(after: Callable[[datetime], datetime], slot: datetime, now: datetime) -> datetime:
    """The last slot up to `now`, where `slot` is one. By halves: there may be millions in between."""
    end = now  # no slot is later than this and not later than `now`
    while end - slot >= timedelta(seconds=1):  # no schedule has slots that are closer
        middle = slot + (end - slot) / 2
        found = after(middle)
        if found <= now:
            slot = found
        else:
            end = middle
    return slot


def slot_job(cron: Cron, options: Options, slot: int) -> Job:
    """The job of a slot (in microseconds). Whoever makes it gives it the same id: no store takes two."""
    import hashlib

    from .codec import dump_call

    digest = hashlib.sha256(f"{slot} {cron.task}".encode()).digest()
    return Job(
        id=uuid7(slot // 1000, digest[:10]),
        task=cron.task,
        due=slot,
        created=now(),
        kind="cron",
        unique_key=f"cron:{cron.task}" if cron.overlap == "skip" else None,
        payload=dump_call((), {}),
        **options.columns(slot),
    )
