"""Crontabs against a reference that goes minute by minute, and against cronsim. Fault 88."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import re
import zoneinfo

import pytest
from cron_cases import DAY, FIRST, UTC, ZONES, changes, check, contract, parse, random_crontab, rule_of
from cronsim import CronSim

from autocron_web.cronfields import HOURS, MINUTES, from_text
from autocron_web.errors import ConfigError
from autocron_web.slots import schedule_of

pytestmark = pytest.mark.once

#: Those that `make test` goes through minute by minute; `make matrix` goes through all.
STRANGEST = {"Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "America/Havana"}


@contract.holds(
    "With a `*` in minutes or hours it runs whenever the clock shows an allowed time: not in a skipped hour, "
    "twice in a repeated one.",
    "If both are set, a day that either of them allows is enough.",
    "If one day field is set, it decides.",
    "A day that a month does not have is left out, and does not move to another one.",
)
@pytest.mark.parametrize(
    "zone",
    [pytest.param(zone, marks=() if zone in STRANGEST else pytest.mark.matrix) for zone in ZONES],
)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.matrix)])
def test_88_ten_years_minute_by_minute(zone: str, seed: int) -> None:
    choose = random.Random(f"{zone} {seed}")
    for _ in range(3):
        expression, unix, rule = random_crontab(choose)
        if not rule.allowed_days:
            with pytest.raises(ConfigError, match="never comes"):
                parse(expression)
            continue
        crontab, from_unix = parse(expression, tz=zone), parse(unix, "unix", zone)
        again = schedule_of(crontab.canonical, zone)
        assert again.canonical == crontab.canonical == from_unix.canonical
        check([crontab, from_unix, again], rule, zone, choose)


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0 0 * * *", "*/30 2 * * *", "15 * * * *", "0,30 0-3 * * *"]
)
@pytest.mark.parametrize("zone", ZONES)
def test_each_run_around_the_changes(zone: str, expression: str) -> None:
    minutes, hours = expression.split()[:2]
    rule = rule_of(
        minutes=frozenset(from_text(MINUTES, minutes, "").numbers),
        hours=frozenset(from_text(HOURS, hours, "").numbers),
        days=None,
        months=frozenset(range(1, 13)),
        days_of_week=None,
        by_real_time="*" in minutes + hours,
    )
    crontab = parse(expression, tz=zone)
    for change in changes(zone)[:6] or [FIRST + 99 * DAY]:
        slot, run = dt.datetime.fromtimestamp(60 * (change - DAY), UTC), float(change - DAY)
        while run < change + DAY:
            slot, run = crontab.next_after(slot), rule.run_after(zone, run) or 0
            assert slot.timestamp() == 60 * run


# -- cronsim, where its rules are the same ---------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_cronsim_says_the_same(zone: str) -> None:
    """Left out: steps in day fields, which mean *and* there, and steps in a range of one, which go on to the
    end there; moments in a repeated hour, after which it looks back."""
    one_long = re.compile(r"\b0*(\d+)-0*\1/")
    choose = random.Random(zone)
    compared = 0
    while compared < 40:
        expression, unix, _ = random_crontab(choose)
        with contextlib.suppress(ConfigError):
            crontab = parse(expression, tz=zone)
            if any("*/" in field for field in (unix.split()[2], unix.split()[4])) or one_long.search(unix):
                continue
            compared += 1
            for _ in range(10):
                moment = dt.datetime.fromtimestamp(choose.randrange(1_577_836_800, 1_893_456_000), UTC)
                moment = moment.astimezone(zoneinfo.ZoneInfo(zone))
                theirs = next(CronSim(unix, moment))
                if moment.replace(fold=1).utcoffset() == moment.replace(fold=0).utcoffset():
                    assert crontab.next_after(moment) == theirs, (unix, moment)
