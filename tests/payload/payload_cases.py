"""What the tests of docs/payload.md share: classes, a comparer that knows types, and values of all kinds."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import operator
import pathlib
import zoneinfo
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from autocron_web import codec
from contract import Contract

contract = Contract("payload.md")
quick = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@codec.register
class Color(enum.Enum):
    RED = 1
    BLUE = "blue"
    ROT = RED


@codec.register
class Level(enum.IntEnum):
    LOW = 1


@codec.register
class Word(enum.StrEnum):
    HI = "hi"


@codec.register
class Right(enum.Flag):
    READ = 1
    WRITE = 2


@codec.register
@dataclasses.dataclass
class Address:
    street: Any
    city: Any = ""
    lines: list[Any] = dataclasses.field(default_factory=list)


@codec.register
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: Any
    y: Any = dataclasses.field(default=0, init=False)


# -- the comparer: the same value and the same type, at every depth --------------------------------------


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (float, decimal.Decimal)):
        return repr(a) == repr(b)  # nan, -0.0, all digits
    if isinstance(a, zoneinfo.ZoneInfo):
        return a is b  # ZoneInfo keeps one object for each name, and datetime's arithmetic needs that
    parts = parts_of(a)
    return bool(a == b) if parts is None else same(parts, parts_of(b))


def parts_of(value: Any) -> list[Any] | None:
    """What makes up the value beyond its type, or None where equality is exact."""
    if isinstance(value, dict):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, (dt.datetime, dt.time)):
        return [value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo]
    if isinstance(value, dt.timezone):
        return [value.utcoffset(None), value.tzname(None), repr(value)]
    return None


def there_and_back(value: Any) -> Any:
    data = codec.dumps(value)
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return codec.loads(data)


# -- every type, by itself and inside the others ---------------------------------------------------------

texts = st.text(st.characters()) | st.text(st.sampled_from('\ud83d\ude00\0a$"\\é😀\u2028'), max_size=6)
offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.none() | st.timezones() | st.builds(dt.timezone, offsets) | st.builds(dt.timezone, offsets, texts)


def with_fold(value: Any, fold: int) -> Any:
    return value.replace(fold=fold)


TYPES: dict[str, st.SearchStrategy[Any]] = {
    "None": st.none(),
    "bool": st.booleans(),
    "int": st.integers() | st.builds(operator.lshift, st.integers(), st.sampled_from([960, 1024, 20_000])),
    "float": st.floats(),
    "str": texts,
    "bytes": st.binary(),
    "datetime": st.builds(with_fold, st.datetimes(timezones=zones), st.integers(0, 1)),
    "date": st.dates(),
    "time": st.builds(with_fold, st.times(timezones=zones), st.integers(0, 1)),
    "timedelta": st.timedeltas(),
    "timezone": st.builds(dt.timezone, offsets) | st.builds(dt.timezone, offsets, texts) | st.just(dt.UTC),
    "ZoneInfo": st.timezones(),
    "Decimal": st.decimals(allow_nan=True)
    | st.sampled_from([decimal.Decimal("-0E+9"), decimal.Decimal("-NaN7")]),
    "UUID": st.uuids(),
    "Path": st.builds(pathlib.Path, texts),
    "PurePosixPath": st.builds(pathlib.PurePosixPath, texts),
    "PureWindowsPath": st.builds(
        pathlib.PureWindowsPath,
        st.sampled_from(["C:\\", "\\\\host\\share", ""]),
        st.text("ab .é", max_size=5),
    ),
    "enums": st.sampled_from([*Color, *Level, *Word, *Right, Right.READ | Right.WRITE, Right(0)]),
}
leaves = st.one_of(*TYPES.values())


def can_be_key(value: Any) -> bool:
    return not (isinstance(value, decimal.Decimal) and value.is_snan())


keys = st.recursive(
    leaves.filter(can_be_key),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Point, x=inner),
    max_leaves=4,
)
TYPES |= {
    "list": st.lists(leaves, max_size=4),
    "tuple": st.lists(leaves, max_size=4).map(tuple),
    "dict": st.dictionaries(keys, leaves, max_size=4),
    "set": st.sets(keys, max_size=4),
    "frozenset": st.frozensets(keys, max_size=4),
    "dataclasses": st.builds(Address, leaves, leaves, st.lists(leaves, max_size=2))
    | st.builds(Point, x=leaves),
}
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys | st.text("$ab", max_size=3), inner, max_size=4),
        st.sets(keys, max_size=4),
        st.builds(Address, inner, inner),
    ),
    max_leaves=12,
)
