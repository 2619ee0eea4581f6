"""Time zones by name, and the one that the machine keeps."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from datetime import tzinfo

#: The name of the machine's own rules where they are no zone of the tz database: a TZ such as "CET-1CEST".
LOCAL = "local"


def zone_of(tz: str | tzinfo | None) -> tuple[tzinfo | None, str]:
    """A time zone and the name by which `zone_of` finds it again, on other machines too.

    `tz` is a name of the tz database such as "Europe/Berlin", an offset such as "+02:00", a tzinfo that is
    one of these, or None for the machine's zone. The zone is None for the machine's own rules: then it is
    what `datetime.astimezone()` says. Raises `ConfigError`.
    """
    if tz is None:
        name = machine_zone()
        zone = _named(name) if name else None
        if zone and name:
            return zone, name
        if name and not any(map(str.isdigit, name)):  # rules, as in "CET-1CEST", have digits
            _say_unknown(name)
        return None, LOCAL
    if tz == LOCAL:
        return None, LOCAL
    name = tz if isinstance(tz, str) else _name_of(tz)
    zone = _named(name) or _offset(name)
    if zone is None:
        raise ConfigError(
            f"tz: {tz!r} is not a time zone that this machine knows: give a name such as 'Europe/Berlin'"
            " (if that is one, pip install tzdata), or an offset such as '+02:00'"
        )
    return zone, name


def machine_zone(environ: Mapping[str, str] = os.environ, root: str = "/") -> str | None:
    """The name of the machine's zone as the C library sees it, or None if it has rules without a name.

    That is `TZ`; else what `/etc/localtime` links to; else, if that is a copy, `/etc/timezone`, as long as it
    names the zone that was copied (images often leave it behind); else UTC. See tzset(3), localtime(5).
    """
    if "TZ" in environ:
        tz = environ["TZ"].removeprefix(":")
        return _key(tz) if "/zoneinfo/" in tz else tz or "UTC"
    localtime = os.path.join(root, "etc/localtime")
    target = localtime
    for _ in range(8):
        if not os.path.islink(target):
            break
        target = os.path.join(os.path.dirname(target), os.readlink(target))
        if "/zoneinfo/" in target:
            return _key(target)
    if not os.path.exists(localtime):
        return "UTC"
    try:
        with open(os.path.join(root, "etc/timezone")) as file:
            name = file.read().strip()
        with (
            open(os.path.join(root, "usr/share/zoneinfo", name), "rb") as zone,
            open(localtime, "rb") as copy,
        ):
            return name if zone.read() == copy.read() else None
    except (OSError, ValueError):
        return None


@functools.cache
def _say_unknown(name: str) -> None:
    """Once in each process: the C library takes what it does not know for UTC, and says nothing."""
    from .settings import warn

    warn(
        f"the machine's time zone {name!r} is not known to it: crons without tz= run by UTC."
        " Install its time zones (apt-get install tzdata, or pip install tzdata), or correct TZ"
    )


def _key(path: str) -> str:
    """The name of a zone from the path of its file; `posix/` is the same zone once more."""
    return path.rpartition("/zoneinfo/")[2].removeprefix("posix/")


def _named(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder; no name at all; ZoneInfoNotFoundError
        return None


def _offset(name: str) -> tzinfo | None:
    from datetime import datetime

    if name == "UTC":  # also where there is no tz database
        return UTC
    try:
        return datetime.fromisoformat(f"2000-01-01T00:00{name}").tzinfo if name[:1] in ("+", "-") else None
    except ValueError:
        return None


def _name_of(tz: tzinfo) -> str:
    """The name of a ZoneInfo, a timezone, or a zone of pytz; "" for others."""
    from datetime import timezone

    if isinstance(tz, timezone):
        return str(timezone(tz.utcoffset(None))).removeprefix("UTC") or "UTC"
    return str(getattr(tz, "key", None) or getattr(tz, "zone", None) or "")
