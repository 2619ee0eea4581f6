"""What is refused, and with which way out: the sentences of docs/payload.md."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime as dt
import enum
import io
import pathlib
import re
import threading
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from payload_cases import Address, Point, contract, same, there_and_back

from autocron_web import codec, tags
from autocron_web.errors import NotStorable


class Pair(NamedTuple):
    a: int
    b: int


class User:
    pk = property(lambda self: pytest.fail("the codec has run the code of a class"))


class Row:
    id = 7


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {}


class Array:
    def tolist(self) -> list[Any]:
        return []


class SimpleLazyObject:
    pass


class Named(dict):  # type: ignore[type-arg]
    pass


class Moment(dt.datetime):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Order:
    id: int


def numbers() -> Iterator[int]:
    yield 1


REFUSED: list[tuple[Any, str]] = [
    (User(), "(test_payload_refusals.User) cannot be stored: pass x.pk"),
    (Row(), "(test_payload_refusals.Row) cannot be stored: pass x.id"),
    (SimpleLazyObject(), "it only stands for another object, pass what the task needs of that, such as x.pk"),
    (Model(), "pass x.model_dump()"),
    (Array(), "pass x.tolist()"),
    (
        Size.SMALL,
        "(test_payload_refusals.Size) cannot be stored: register the class with autocron.register(Size)",
    ),
    (Order(1), "register the class with autocron.register(Order)"),
    (Pair(1, 2), "pass tuple(x), or make the class a dataclass and register that"),
    (Named(a=1), "pass dict(x), because only exact types come back as they were"),
    (collections.OrderedDict(), "pass dict(x)"),
    (type("Id", (int,), {})(3), "pass int(x)"),
    (type("Html", (str,), {})("a"), "pass str(x)"),
    (type("Rows", (list,), {})(), "pass list(x)"),
    (Moment(2026, 1, 1), "pass a plain datetime.datetime"),
    (
        dt.datetime(2026, 1, 1, tzinfo=Zone()),
        ".tzinfo (test_payload_refusals.Zone) cannot be stored: use a zone of zoneinfo",
    ),
    (numbers(), "(generator) cannot be stored: pass list(x)"),
    (range(3), "pass list(x)"),
    (collections.deque(), "pass list(x)"),
    ({}.keys(), "pass list(x)"),
    (bytearray(b"a"), "pass bytes(x)"),
    (memoryview(b"a"), "pass bytes(x)"),
    (io.StringIO(), "pass the path of the file, or what is in it"),
    (lambda: 1, "(function) cannot be stored: pass the values that it works on"),
    (User, "(type) cannot be stored: pass the values that it works on"),
    (threading.Lock(), "lock) cannot be stored: pass the values that the task needs of it"),
    (object(), "(object) cannot be stored: pass the values that the task needs of it"),
    (1j, "(complex) cannot be stored"),
]


def refusal(*args: Any, names: tuple[str, ...] = ("x", "rows"), **kwargs: Any) -> str:
    with pytest.raises(NotStorable) as caught:
        codec.dump_call(args, kwargs, names=names)
    assert caught.value.__cause__ is None
    return str(caught.value)


@contract.holds("The message names the argument and the place inside it.")
@pytest.mark.parametrize(("value", "way_out"), REFUSED, ids=[way_out[:40] for _, way_out in REFUSED])
def test_a_refusal_names_the_argument_and_a_way_out(value: Any, way_out: str) -> None:
    message = refusal(value)
    assert message.startswith("argument 'x'")
    assert way_out in message
    inside = re.sub(r"\bx(?=[.)])", "rows[1]['a']", way_out)
    message = refusal(1, [2, {"a": value}])
    assert message.startswith("argument 'rows'[1]['a']")
    assert inside in message


def test_a_refusal_names_every_kind_of_place() -> None:
    assert refusal(1, 2, Row()).startswith("argument 3 (test_payload_refusals.Row)")
    assert refusal(a=1, b=(Row(),)).startswith("argument 'b'[0] (test_payload_refusals.Row)")
    assert refusal({(1, Row()): 2}).startswith("argument 'x'.keys()[…][1] (test_payload_refusals.Row)")
    assert refusal({(1, 2): Row()}).startswith("argument 'x'[<tuple>] (")
    assert refusal({Row()}).startswith("argument 'x'[…] (")
    assert refusal(Address("a", [Row()])).startswith("argument 'x'.city[0] (")
    assert refusal({"k" * 99: Row()}).startswith(f"argument 'x'['{'k' * 39}…] (")
    with pytest.raises(NotStorable, match=r"^the result\[0\] \(.*: return result\[0\]\.id$"):
        codec.dumps([Row()])


@contract.holds(
    "A container that contains itself is refused.", "At most 100 containers may be inside each other."
)
def test_depth() -> None:
    loop: list[Any] = [1]
    loop.append({"a": (loop,)})
    assert refusal(loop).startswith("argument 'x' contains itself: pass")
    for wrap in (lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: {1: x}, lambda x: Point(x=x)):
        value: Any = 1
        for _ in range(100):
            value = wrap(value)
        assert same(there_and_back(value), value)
        assert same(codec.load_call(codec.dump_call((value,), {"a": value})), ((value,), {"a": value}))
        assert refusal(wrap(value)).startswith("argument 'x' is nested deeper than 100 levels: pass")
        assert "argument 'a' is nested" in refusal(a=wrap(value))
        with pytest.raises(NotStorable, match="the result is nested deeper"):
            codec.dumps(wrap(value))


@pytest.mark.once
@contract.holds("The arguments of a call may take 1 MiB together.", "A result may take 1 MiB.")
@pytest.mark.parametrize("fill", ["a", "é", b"a", ("a",)], ids=["ascii", "utf-8", "base64", "tuple"])
def test_size(fill: Any) -> None:
    def takes(count: int) -> int:
        return len(tags.to_json(tags.tagged(fill * count)).encode())

    count = bisect.bisect_right(range(1 << 20), 1 << 20, key=takes) - 1  # the most that 1 MiB holds
    assert same(there_and_back(fill * count), fill * count)
    with pytest.raises(
        NotStorable, match=r"^the result takes 1,048,5[78]\d bytes and the limit is 1,048,576: keep"
    ):
        codec.dumps(fill * (count + 1))
    half = fill * (count // 2 - 20)
    args, kwargs = codec.load_call(codec.dump_call((half,), {"b": half}))
    assert same((args, kwargs), ((half,), {"b": half}))
    message = refusal(half, b=half + fill * 60)
    assert message.startswith("the arguments take 1,048,")
    assert message.endswith("keep the data in a file or a table, and pass its name")


def test_a_zone_without_a_key_and_a_path_without_a_text_are_refused() -> None:
    with (pathlib.Path(zoneinfo.TZPATH[0]) / "Europe" / "Berlin").open("rb") as file:
        nameless = zoneinfo.ZoneInfo.from_file(file)
    assert "(zoneinfo.ZoneInfo) cannot be stored: pass a zone that was made by its name" in refusal(nameless)
    assert refusal(dt.time(1, tzinfo=nameless)).startswith("argument 'x'.tzinfo (zoneinfo.ZoneInfo)")
    odd = pathlib.PureWindowsPath("./a:b")
    if pathlib.PureWindowsPath(str(odd)) == odd:  # Python 3.12
        assert same(there_and_back(odd), odd)
    else:
        assert "pass str(x)" in refusal(odd)
