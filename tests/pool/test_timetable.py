"""What a worker tells of the app's crons, as far as the monitor understands it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autocron_web.jobs import now
from autocron_web.options import Options
from autocron_web.pool.loop import Loop
from autocron_web.pool.timetable import Timetable

pytestmark = pytest.mark.once

OPTIONS = [*Options()]


class Desk:
    """A timetable whose store answers at once, and what it says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.seen: list[tuple[Any, ...]] = []
        self.taken: list[Any] = []
        self.loop = Loop()
        self.failures: list[Exception] = []
        self.loop.on_failure = self.failures.append
        self.timetable = Timetable(self.loop, self, lambda: None, self.said.append)  # type: ignore[arg-type]

    def ask(self, operation: Any, reply: Any) -> None:
        reply(operation(SimpleNamespace(see_cron=self._see, take_slot=self._take)))

    def _see(self, name: str, canonical: str, zone: str, moment: int) -> int:
        self.seen.append((name, canonical, zone))
        return moment

    def _take(self, name: str, slot: int, job: Any) -> bool:
        self.taken.append(job)
        return True


def row(name: str = "shop.cron", **others: Any) -> list[Any]:
    fields = {
        "schedule": "0 2 * * *", "zone": "Europe/Berlin", "options": OPTIONS, "missed": "once",
        "catch_up": 3600.0, "overlap": "skip", "start_now": False, "doubtful": None,
    }  # fmt: skip
    return [name, *{**fields, **others}.values()]


def test_a_zone_that_only_the_worker_knows_is_utc_and_that_is_said() -> None:
    desk = Desk()
    desk.timetable.learn([row(zone="Mars/Olympus"), row("shop.other")])
    assert desk.seen == [("shop.cron", "0 2 * * *", "UTC"), ("shop.other", "0 2 * * *", "Europe/Berlin")]
    (said,) = desk.said
    assert said.startswith("the cron shop.cron runs by UTC: tz: 'Mars/Olympus' is not a time zone that this")
    following = [entry.following for entry in desk.timetable.entries]
    assert all(moment is not None and moment > now() for moment in following)


@pytest.mark.parametrize(
    "others",
    [
        {"schedule": "61 2 * * *"}, {"schedule": "every x"}, {"schedule": ""}, {"schedule": None},
        {"schedule": "every nan"}, {"zone": 7}, {"zone": None, "schedule": []}, {"options": [*OPTIONS, 1]},
        {"options": 7}, {"options": ["x"] * len(OPTIONS)}, {"missed": "twice"},
        {"missed": []}, {"catch_up": float("nan")}, {"catch_up": "1"}, {"start_now": 1}, {"overlap": {}},
        {"more": 1}, {"doubtful": 7},
    ],
)  # fmt: skip
def test_a_cron_that_cannot_be_understood_costs_that_cron(others: dict[str, Any]) -> None:
    desk = Desk()
    desk.timetable.learn([row("shop.first"), row(**others), row("shop.last")])
    assert [entry.cron.task for entry in desk.timetable.entries] == ["shop.first", "shop.last"]
    (said,) = desk.said
    assert said.startswith("the cron shop.cron does not run: the pool cannot understand it (")
    assert desk.failures == []
    desk.timetable.learn([row("shop.first"), row(**others), row("shop.last")])
    assert len(desk.said) == 1


def test_a_cron_that_fails_later_costs_no_other() -> None:
    desk = Desk()
    desk.timetable.learn([row(schedule="every 1", zone="UTC", start_now=True), row("shop.last")])
    assert [job.task for job in desk.taken] == ["shop.cron"]
    first = desk.timetable.entries[0]
    first.cron = first.cron._replace(schedule=None)  # type: ignore[arg-type]  # a mistake in this package
    desk.loop.after(3.0, desk.loop.stop)
    desk.loop.run()
    assert len(desk.failures) == 1
