"""Time zones and daylight saving: the sentences of docs/cron.md. Faults 86 and 87."""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cron_cases import DAY, MINUTE, UTC, ZONES, at, changes, contract, parse, shown, slots

from autocron_web.crontab import Crontab
from autocron_web.errors import ConfigError
from autocron_web.options import Options
from autocron_web.pool.timetable import understood
from autocron_web.slots import schedule_of
from autocron_web.store.sqlite import SqliteStore
from autocron_web.timezones import machine_zone, zone_of

pytestmark = pytest.mark.once


class Pytz(dt.tzinfo):
    """Like a zone of pytz: it has its name in `zone`, and is wrong as the tzinfo of most datetimes."""

    zone = "Europe/Berlin"


@contract.holds(
    "`tz` is a name such as `Europe/Berlin`, an offset such as `+02:00`, or a `tzinfo` that is one of these."
)
def test_zones() -> None:
    noon = at("2026-07-01T12:00")
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    zones: list[tuple[Any, str, int]] = [
        ("Europe/Berlin", "Europe/Berlin", 22),
        (berlin, "Europe/Berlin", 22),
        (Pytz(), "Europe/Berlin", 22),
        ("+02:00", "+02:00", 22),
        (dt.timezone(dt.timedelta(hours=-3), "here"), "-03:00", 3),
        (UTC, "UTC", 0),
        ("UTC", "UTC", 0),
    ]
    for tz, name, hour in zones:
        crontab = Crontab.parse("0 0 * * *", tz=tz)
        assert crontab.zone_name == name
        slot = crontab.next_after(noon)
        assert slot.astimezone(UTC).hour == hour
        assert (slot.hour, slot.minute) == (0, 0)
        again = schedule_of(crontab.canonical, crontab.zone_name)
        assert again.zone_name == name
        assert again.next_after(noon) == slot
    moment = noon.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo"))
    assert Crontab.parse("0 0 * * *", tz=berlin).next_after(moment) == at("2026-07-01T22:00")


@pytest.mark.parametrize("tz", ["Mars/Base", "", "Europe", "+2", "../etc/passwd", "/etc/localtime", "\0", 5])
def test_an_unknown_zone_is_refused(tz: Any) -> None:
    with pytest.raises(ConfigError, match=r"^tz: .* give a name such as 'Europe/Berlin'"):
        Crontab.parse("* * * * *", tz=tz)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="aware datetime"):
        parse("* * * * *").next_after(dt.datetime.fromisoformat("2026-01-01"))


def machine(
    root: Path, *, link: str | None = None, copy_of: str | None = None, timezone: str | None = None
) -> str:
    """A machine's files: which zone /etc/localtime links to or is a copy of, and what /etc/timezone says."""
    (root / "etc").mkdir()
    (root / "usr/share/zoneinfo/Europe").mkdir(parents=True)
    for name in ("Berlin", "Paris"):
        (root / "usr/share/zoneinfo/Europe" / name).write_text(name)
    if link:
        (root / "etc/localtime").symlink_to(link)
    if copy_of:
        (root / "etc/localtime").write_text(copy_of)
    if timezone:
        (root / "etc/timezone").write_text(timezone + "\n")
    return str(root)


@contract.holds(
    "Without `tz` it is the machine's: what `TZ` says, else what `/etc/localtime` links to.",
    "If `/etc/localtime` is a copy, `/etc/timezone` names it, as long as it is the same zone.",
    "A machine without any of these runs by UTC.",
)
@pytest.mark.parametrize(
    ("environ", "files", "name"),
    [
        ({"TZ": "Asia/Tokyo"}, {"link": "/usr/share/zoneinfo/Europe/Berlin"}, "Asia/Tokyo"),
        ({"TZ": ":Asia/Tokyo"}, {}, "Asia/Tokyo"),
        ({"TZ": "/usr/share/zoneinfo/Asia/Tokyo"}, {}, "Asia/Tokyo"),
        ({"TZ": ""}, {"link": "/usr/share/zoneinfo/Europe/Berlin"}, "UTC"),
        ({}, {"link": "/usr/share/zoneinfo/Europe/Berlin", "timezone": "Europe/Paris"}, "Europe/Berlin"),
        ({}, {"link": "../usr/share/zoneinfo/posix/Europe/Berlin"}, "Europe/Berlin"),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/Paris"}, None),
        ({}, {"copy_of": "Berlin", "timezone": "Europe/London"}, None),
        ({}, {"copy_of": "Berlin"}, None),
        ({}, {"timezone": "Europe/Berlin"}, "UTC"),
        ({}, {}, "UTC"),
    ],
)
def test_the_zone_of_the_machine(
    tmp_path: Path, environ: dict[str, str], files: dict[str, str], name: str
) -> None:
    assert machine_zone(environ, machine(tmp_path, **files)) == name


@pytest.fixture
def set_tz(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_to(tz: str) -> None:
        monkeypatch.setenv("TZ", tz)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


@contract.holds(
    "Rules of the machine without a name, as with `TZ=CET-1CEST`, are followed under the name `local`."
)
def test_rules_without_a_name(set_tz: Callable[[str], None]) -> None:
    set_tz("CET-1CEST,M3.5.0,M10.5.0/3")
    assert zone_of(None) == (None, "local")
    for expression in ("30 2 * * *", "*/30 * * * *", "*/30 2 * * *", "0,30 0-3 * * *", "15 3 * * *"):
        by_rules, by_name = Crontab.parse(expression), parse(expression, tz="Europe/Berlin")
        assert by_rules.zone_name == "local"
        for day in ("2026-03-28T12:00", "2026-10-24T12:00", "2026-06-01T00:00"):
            assert slots(by_rules, at(day), 99) == slots(by_name, at(day), 99)
            assert slots(schedule_of(by_rules.canonical, "local"), at(day), 9) == slots(by_name, at(day), 9)


def test_the_machine_zone_is_the_default(set_tz: Callable[[str], None]) -> None:
    set_tz("Asia/Tokyo")
    crontab = Crontab.parse("0 0 * * *")
    assert crontab.zone_name == "Asia/Tokyo"
    assert crontab.next_after(at("2026-01-01T12:00")) == at("2026-01-01T15:00")


# -- daylight saving -------------------------------------------------------------------------------------


@contract.holds(
    "A fixed time runs once on each day on which it is due.",
    "A fixed time that the clock skips runs when the clock is set: 02:30 at 03:00.",
    "Several fixed times that the clock skips run together, once.",
    "A fixed time that comes twice runs the first time.",
)
def test_86_87_fixed_times() -> None:
    berlin = "Europe/Berlin"
    spring, autumn = at("2026-03-28T12:00", berlin), at("2026-10-24T12:00", berlin)
    assert shown(parse("30 2 * * *", tz=berlin), spring, 2) == ["03-29 03:00", "03-30 02:30"]
    assert shown(parse("0,10,30 2 * * *", tz=berlin), spring, 2) == ["03-29 03:00", "03-30 02:00"]
    assert shown(parse("30 2,3 * * *", tz=berlin), spring, 3) == ["03-29 03:00", "03-29 03:30", "03-30 02:30"]
    first, second = slots(parse("30 2 * * *", tz=berlin), autumn, 2)
    assert first == at("2026-10-25T00:30")
    assert second == at("2026-10-26T01:30")
    assert parse("30 2 * * *", tz=berlin).next_after(at("2026-10-25T01:10")) == second  # in the second 02:10
    assert shown(parse("15 0 * * *", tz="America/Santiago"), at("2026-09-05T12:00"), 2) == [
        "09-06 01:00",
        "09-07 00:15",
    ]
    assert shown(parse("15 2 * * *", tz="Australia/Lord_Howe"), at("2026-10-03T12:00"), 2) == [
        "10-04 02:30",
        "10-05 02:15",
    ]
    assert shown(parse("0 12 * * *", tz="Pacific/Apia"), at("2011-12-29T12:00"), 3) == [
        "12-29 12:00",
        "12-31 00:00",
        "12-31 12:00",
    ]


@contract.holds("So `*/30 * …` runs every thirty minutes of real time, and `0 * …` every hour.")
@pytest.mark.parametrize("zone", ZONES)
def test_87_stars_go_by_real_time(zone: str) -> None:
    for change in changes(zone)[:4] or [27_000_000]:
        moment = dt.datetime.fromtimestamp(60 * (change - DAY), UTC)
        found = slots(parse("*/30 * * * *", tz=zone), moment, 96)
        assert {b - a for a, b in pairwise(found)} == {30 * MINUTE}
        if (
            zone != "Australia/Lord_Howe"
        ):  # where an hour is half an hour longer or shorter when the clock is set
            found = slots(parse("0 * * * *", tz=zone), moment, 48)
            assert {b - a for a, b in pairwise(found)} == {60 * MINUTE}


def test_86_87_a_star_with_a_fixed_hour_follows_the_clock() -> None:
    berlin = "Europe/Berlin"
    crontab = parse("*/30 2 * * *", tz=berlin)
    assert shown(crontab, at("2026-03-28T12:00"), 2) == ["03-30 02:00", "03-30 02:30"]
    assert shown(crontab, at("2026-10-24T12:00"), 5) == [f"10-25 02:{m}" for m in ("00", "30") * 2] + [
        "10-26 02:00"
    ]


# -- machines whose zone changes or is not known -----------------------------------------------------------


@contract.holds(
    "A machine that does not know the zone that it is set to runs by UTC, and the log says so.",
)
def test_91_a_zone_that_the_machine_does_not_know(
    set_tz: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    set_tz("Nowhere/Berlin")
    for _ in range(2):
        crontab = Crontab.parse("0 2 * * *")
        assert crontab.next_after(at("2026-07-01T12:00")) == at("2026-07-02T02:00")
    assert [record.getMessage()[:57] for record in caplog.records] == [
        "the machine's time zone 'Nowhere/Berlin' is not known to i"[:57]
    ]


@contract.holds("When the machine's zone changes, crons begin anew by it at the next start of the app.")
def test_91_another_zone_is_another_cron(set_tz: Callable[[str], None], tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "zones.db")
    seen = []
    for zone in ("Europe/Berlin", "Asia/Tokyo", "Asia/Tokyo"):
        set_tz(zone)
        crontab = Crontab.parse("0 2 * * *")
        seen.append(store.see_cron("digest", crontab.canonical, crontab.zone_name, len(seen)))
    store.close()
    assert seen == [0, 1, 1]


@contract.holds(
    "A cron whose `tz` is known to the app's process and not to the pool's (its tz database lies where only"
    " the app looks) runs by UTC, and the log says so.",
)
def test_a_zone_that_only_the_app_knows() -> None:
    said: list[str] = []
    row = ["shop.report", "0 2 * * *", "Mars/Olympus", [*Options()], "once", 3600.0, "skip", False, None]
    cron, _ = understood(row, said.append)
    assert cron.schedule.zone_name == "UTC"
    (sentence,) = said
    assert sentence.startswith("the cron shop.report runs by UTC: tz: 'Mars/Olympus' is not a time zone that")
