"""The contract of docs/payload.md: a value comes back exactly as it went in, or is refused with a way out."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import io
import json
import math
import operator
import pathlib
import re
import sys
import threading
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocron_web import codec, tags
from autocron_web.errors import NotStorable
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


# -- the comparer: the same value and the same type, at every depth ------------------------------------------


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


def test_the_comparer_sees_what_equality_does_not() -> None:
    different: list[tuple[Any, Any]] = [
        (1, True), (1, 1.0), (0.0, -0.0), ([1], (1,)), ({1}, frozenset({1})), (Level.LOW, 1), (Word.HI, "hi"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        ([[1]], [[True]]),
        (dt.datetime.fromisoformat("2026-10-25"), dt.datetime.fromisoformat("2026-10-25").replace(fold=1)),
        (dt.UTC, dt.timezone(dt.timedelta(0), "GMT")), (dt.UTC, zoneinfo.ZoneInfo("UTC")),
    ]  # fmt: skip
    assert not any(same(a, b) for a, b in different)
    assert same([math.nan, {1: -0.0}], [math.nan, {1: -0.0}])


# -- every type, by itself and inside the others ----------------------------------------------------------

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


@pytest.mark.parametrize("name", TYPES)
def test_each_type_comes_back_exactly(name: str) -> None:
    @settings(quick, max_examples=60)
    @given(TYPES[name])
    def comes_back(value: Any) -> None:
        assert same(there_and_back(value), value)

    comes_back()


def test_the_page_lists_the_types_that_are_tested() -> None:
    table = contract.text.split("## Types")[1].split("\n\n")[1]
    listed = "".join(line.split("|")[1] for line in table.splitlines()[2:])
    assert set(listed.replace("`", " ").replace(",", " ").split()) == set(TYPES)


@contract.holds("It is plain JSON that any program can read.")
@quick
@given(values)
def test_any_mixture_of_types_comes_back_exactly(value: Any) -> None:
    assert same(there_and_back(value), value)


@quick
@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(texts, values, max_size=3))
def test_a_call_comes_back_exactly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert same(codec.load_call(codec.dump_call(args, kwargs)), (args, kwargs))


@contract.holds(
    "An integer may have any size.",
    "`nan`, `inf`, `-inf` and `-0.0` come back.",
    "A text may hold NUL and lone surrogates.",
    "A dict keeps its order, and whatever of this table can be a key may be one.",
    "A dict may have keys that start with `$`.",
)
@pytest.mark.parametrize(
    "value",
    [
        10**5000, -(10**5000), 2**1024, [2**70, -(2**70)], math.nan, math.inf, -math.inf, -0.0, 5e-324,
        "\0", "\ud800", "\ud83d\ude00", "😀", ["\udc00\0"], {"\ud800": 1}, "$5", '"$', {"a": '"$tuple"'},
        {"b": 1, "a": 2, "c": {"z": 0, "y": 1}}, {1: 2, "1": 3, None: 4, (1, 2): 5, 1.5: 6, b"k": 7},
        {"$": 1}, {"$tuple": [1]}, {"$tuple": [1], "a": 2}, {"$dict": [["a", 1]]},
        [{"$x": {"$y": [{"$z": ()}]}}],
        {(): {frozenset({(1, "a")}): Color.RED}}, [(), [], {}, set(), frozenset(), ""], {math.nan: math.nan},
        *(dt.datetime.fromisoformat(text) for text in ("0001-01-01", "9999-12-31T23:59:59.999999")),
        dt.timedelta.min, dt.timedelta.max, dt.time.max,
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2026, 3, 29, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        decimal.Decimal("1E+999999"), decimal.Decimal("sNaN123"), decimal.Decimal("0." + "1" * 9999),
        pathlib.Path("/tmp/\udcff"), pathlib.PureWindowsPath("c:/a b/c"), pathlib.PurePosixPath("//a/./b"),
    ],
    ids=lambda value: f"{value:x}"[:40] if isinstance(value, int) else ascii(value)[:40],
)  # fmt: skip
def test_what_other_formats_change_comes_back_exactly(value: Any) -> None:
    assert same(there_and_back(value), value)
    assert same(
        codec.load_call(codec.dump_call((value,), {"a": value, "$": value})),
        ((value,), {"a": value, "$": value}),
    )


def test_utc_is_the_one_object() -> None:
    assert there_and_back(dt.UTC) is dt.UTC


def test_a_decimal_is_exact_whatever_the_context() -> None:
    value = decimal.Decimal("1.23456789E+40")
    with decimal.localcontext(decimal.Context(prec=2, capitals=0, traps=[])):
        assert same(there_and_back(value), value)


def test_a_big_integer_is_read_where_decimals_are_limited() -> None:
    data = codec.dumps([10**700, 10**300])
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert codec.loads(data) == [10**700, 10**300]
    finally:
        sys.set_int_max_str_digits(limit)


@contract.holds("A list that occurs twice comes back as two equal lists.")
def test_identity_does_not_travel() -> None:
    one = [1]
    first, second = there_and_back([one, one])
    assert first == second == one
    assert first is not second


@contract.holds("Equal sets are stored as equal bytes.")
@quick
@given(st.lists(st.text() | st.integers() | st.tuples(st.text()), unique=True))
def test_equal_sets_are_equal_bytes(members: list[Any]) -> None:
    backwards = set().union(*([member] for member in reversed(members)))
    assert codec.dumps(set(members)) == codec.dumps(backwards)


@contract.holds('What JSON has no form for is an object with one key: `{"$tuple": [1, 2]}`.')
def test_the_stored_form_is_readable() -> None:
    assert codec.dumps((1, 2)) == b'{"$tuple":[1,2]}'
    assert codec.dump_call(("é", 1), {"a": None}) == '[["é",1],{"a":null}]'.encode()
    assert codec.dumps({"when": dt.date(2026, 1, 2)}) == b'{"when":{"$date":"2026-01-02"}}'


# -- registered classes ------------------------------------------------------------------------------------

T = TypeVar("T")


@codec.register
@dataclasses.dataclass
class Loud:
    name: str
    upper: str = dataclasses.field(init=False)
    suffix: dataclasses.InitVar[str] = "!"

    def __post_init__(self, suffix: str) -> None:
        self.upper = self.name.upper() + suffix

    @functools.cached_property
    def half(self) -> str:
        return self.upper[::2]


@codec.register
@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@contract.holds(
    "A dataclass travels field by field, and comes back without a call of `__init__` or `__post_init__`.",
    "What a `cached_property` keeps does not travel.",
)
def test_a_dataclass_comes_back_as_it_was() -> None:
    value = Loud("anna", "?")
    value.name = "otto"  # __post_init__ would make another `upper` of it
    assert value.half == "AN?"
    found = there_and_back(value)
    assert (found.name, found.upper) == ("otto", "ANNA?")
    assert "half" in vars(value)
    assert vars(found) == {"name": "otto", "upper": "ANNA?"}
    assert found.half == value.half
    assert there_and_back(Box[int](1)) == Box(1)


@contract.holds("Members of an enum travel by their name, and those of a flag by their number.")
def test_members_travel_by_name_and_flags_by_number() -> None:
    assert b'"RED"' in codec.dumps(Color.ROT)
    assert b"3" in codec.dumps(Right.READ | Right.WRITE)
    assert there_and_back(Right.READ | Right.WRITE) is Right.READ | Right.WRITE


class Plain:
    pass


@dataclasses.dataclass
class Failure(Exception):
    code: int


@contract.holds(
    "Enums and dataclasses can be registered, other classes cannot.",
    "A class inside a function cannot be registered.",
)
def test_what_cannot_be_registered() -> None:
    with pytest.raises(NotStorable, match=r"test_codec\.Plain is neither an enum nor a dataclass"):
        codec.register(Plain)
    with pytest.raises(NotStorable, match="Failure is a dataclass and a Exception"):
        codec.register(Failure)
    with pytest.raises(NotStorable, match=r"inside a function.*move it out"):

        @codec.register
        class Inner(enum.Enum):
            A = 1


@contract.holds("An attribute that is not a field is refused.")
def test_an_attribute_that_is_no_field_is_refused() -> None:
    address = Address("a")
    address.note = "x"  # type: ignore[attr-defined]
    with pytest.raises(NotStorable, match=r"'note' is no field of the dataclass, make it one"):
        codec.dumps(address)
    empty = object.__new__(Point)
    with pytest.raises(NotStorable, match=r"result\[0\] .*its field 'x' has no value"):
        codec.dumps([empty])


def reloaded(monkeypatch: pytest.MonkeyPatch, old: type, new: Any) -> None:
    """As if the module of `old` had been loaded anew, with `new` in its place."""
    monkeypatch.setitem(tags.classes, tags.full_name(old), new)
    new.__module__, new.__qualname__ = old.__module__, old.__qualname__
    codec.register(new)


@contract.holds(
    "A field that is new needs a default.",
    "A field or a member that is gone is refused by its name when the job runs.",
)
def test_deploys_with_other_fields_and_members(monkeypatch: pytest.MonkeyPatch) -> None:
    old = codec.dumps(Address("a", "b"))
    more = [
        ("street", Any),
        ("city", Any),
        ("lines", list),
        ("zip", str, ""),
        ("tags", list, dataclasses.field(default_factory=list)),
    ]
    reloaded(monkeypatch, Address, dataclasses.make_dataclass("Address", more))
    assert dataclasses.asdict(codec.loads(old)) == {
        "street": "a",
        "city": "b",
        "lines": [],
        "zip": "",
        "tags": [],
    }
    reloaded(monkeypatch, Address, dataclasses.make_dataclass("Address", ["street", "city", "lines", "zip"]))
    with pytest.raises(NotStorable, match="older than its field 'zip': give the field a default"):
        codec.loads(old)
    reloaded(monkeypatch, Address, dataclasses.make_dataclass("Address", ["street", "lines"]))
    with pytest.raises(NotStorable, match="has the field 'city', which the class no longer has"):
        codec.loads(old)
    blue = codec.dumps(Color.BLUE)
    reloaded(monkeypatch, Color, enum.Enum("Color", ["RED"]))
    with pytest.raises(NotStorable, match=r"the member 'BLUE' of test_codec\.Color, which no longer has it"):
        codec.loads(blue)


def test_a_reloaded_class_takes_the_place_of_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Address("a")
    new = dataclasses.make_dataclass("Address", ["street", "city", "lines"])
    reloaded(monkeypatch, Address, new)
    assert type(there_and_back(before)) is new
    assert type(there_and_back(new("a", "", []))) is new


@contract.holds("A class that is not registered in the worker is refused by its name.")
def test_an_unregistered_class_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.dumps(Color.RED)
    monkeypatch.delitem(tags.classes, "test_codec.Color")
    with pytest.raises(
        NotStorable, match=r"is a test_codec\.Color, which is not registered here: let the app import"
    ):
        codec.loads(data)


@contract.holds("A class of the main module has the name that workers import the module by.")
def test_a_class_of_the_main_module_has_its_importable_name(run_script: Any) -> None:
    script = run_script(
        "import enum\n"
        "from autocron_web import codec\n"
        "@codec.register\n"
        "class Color(enum.Enum):\n"
        "    RED = 1\n"
        "print(codec.dumps(Color.RED).decode())\n"
    )
    assert script.stdout.strip() == '{"$enum":["application.Color","RED"]}'


# -- strings of frameworks -----------------------------------------------------------------------------------


def from_module(module: str, cls: Any) -> Any:
    cls.__module__ = module
    return cls


class SafeString(str):
    def __str__(self) -> str:
        return self


class __proxy__:
    def __init__(self, cast: Callable[[], Any]) -> None:
        self._proxy____cast = cast


class LazyString:
    def __str__(self) -> str:
        return "Hallo"


class Number(str):
    """As Django's NumberAwareString: its str is empty, and the texts are elsewhere."""


@contract.holds(
    "`Markup`, `SafeString` and the lazy strings of Django and Flask-Babel come back as `str`.",
    "A lazy string is translated at the call, in the caller's language.",
    "A lazy string that still lacks its number is refused.",
)
def test_strings_of_frameworks_come_back_as_str() -> None:
    markupsafe = pytest.importorskip("markupsafe")
    safe = from_module("django.utils.safestring", SafeString)
    lazy = from_module("django.utils.functional", __proxy__)
    babel = from_module("flask_babel.speaklater", LazyString)
    language = "de"
    greeting = lazy(lambda: {"de": "Hallo", "en": "Hello"}[language])
    data = codec.dumps(
        [markupsafe.Markup("<b>"), safe("<i>"), babel(), lazy(lambda: safe("\ud800")), greeting]
    )
    language = "en"
    assert same(codec.loads(data), ["<b>", "<i>", "Hallo", "\ud800", "Hallo"])
    assert there_and_back(lazy(lambda: 3)) == 3
    with pytest.raises(NotStorable, match="the result"):
        codec.dumps(lazy(lambda: Number()))


def test_strings_of_django_itself() -> None:
    pytest.importorskip("django")
    from django.conf import settings as django_settings  # type: ignore[import-not-found,unused-ignore]
    from django.utils import safestring, translation  # type: ignore[import-not-found,unused-ignore]

    if not django_settings.configured:
        django_settings.configure(USE_I18N=False)
    value = [
        safestring.mark_safe("a"),
        translation.gettext_lazy("b"),
        translation.ngettext_lazy("%d c", "%d d", 1),
    ]
    assert same(there_and_back(value), ["a", "b", "%d c"])
    with pytest.raises(NotStorable, match="NumberAwareString"):
        codec.dumps(translation.ngettext_lazy("%d c", "%d d"))


# -- refusals ----------------------------------------------------------------------------------------------


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
    (User(), "(test_codec.User) cannot be stored: pass x.pk"),
    (Row(), "(test_codec.Row) cannot be stored: pass x.id"),
    (SimpleLazyObject(), "it only stands for another object, pass what the task needs of that, such as x.pk"),
    (Model(), "pass x.model_dump()"),
    (Array(), "pass x.tolist()"),
    (Size.SMALL, "(test_codec.Size) cannot be stored: register the class with autocron.register(Size)"),
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
        ".tzinfo (test_codec.Zone) cannot be stored: use a zone of zoneinfo",
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
    assert refusal(1, 2, Row()).startswith("argument 3 (test_codec.Row)")
    assert refusal(a=1, b=(Row(),)).startswith("argument 'b'[0] (test_codec.Row)")
    assert refusal({(1, Row()): 2}).startswith("argument 'x'.keys()[…][1] (test_codec.Row)")
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


# -- reading what somebody else may have written -----------------------------------------------------------

tag_names = st.sampled_from(sorted(tags._revivers) + sorted(tags._modules) + ["$", "$x", "a"])
contents = st.sampled_from(
    ["test_codec.Color", "test_codec.Right", "test_codec.Address", "RED", "Europe/Berlin", "Europe",
     "/etc/passwd", "../../etc/passwd", "2026-01-01T00:00:00", "12:00", "0x10", "nan", "1e9999999999",
     "YQ==", "os.system", "\0"]
)  # fmt: skip
hostile = st.recursive(
    contents | st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tag_names, inner, min_size=1, max_size=2),
    max_leaves=10,
)


def read_anything(data: bytes) -> None:
    """Reading gives a value or raises NotStorable; so does storing what was read."""
    for read in (codec.loads, codec.load_call):
        try:
            value = read(data)
        except NotStorable as error:
            assert str(error)  # noqa: PT017 - anything else fails the test
        else:
            try:
                again = codec.loads(codec.dumps(value))
            except NotStorable:
                continue
            assert same(again, value)


@contract.holds("Reading raises `NotStorable` and nothing else, whatever the bytes are.")
@quick
@given(st.binary() | hostile.map(lambda value: json.dumps(value).encode()))
def test_reading_bytes_of_strangers(data: bytes) -> None:
    read_anything(data)


@quick
@given(st.lists(values, max_size=2).map(tuple), st.data())
def test_reading_damaged_bytes(args: tuple[Any, ...], data: st.DataObject) -> None:
    stored = codec.dump_call(args, {})
    at = data.draw(st.integers(0, len(stored)))
    cut = data.draw(st.integers(0, 3))
    read_anything(
        stored[:at]
        + data.draw(st.binary(max_size=2) | st.sampled_from([b"$", b'"', b"]"]))
        + stored[at + cut :]
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is damaged: autocron-web did not write it (JSONDecodeError)"),
        (b"\xff", "is damaged"),
        (b"NaN", "is damaged"),
        (b"[" * 100_000, "is damaged: autocron-web did not write it (RecursionError)"),
        (b'{"$dict":' * 100_000, "is damaged"),
        (b"1" * 5000, "is damaged"),
        (b'{"$tuple":"ab"}', "is damaged"),
        (b'{"$set":[1,1]}', "is damaged"),
        (b'{"$set":[[]]}', "is damaged"),
        (b'{"$dict":[[1,2],[1,3]]}', "is damaged"),
        (b'{"$dict":["ab"]}', "is damaged"),
        (b'{"$tuple":[],"a":1}', "is damaged"),
        (b'{"$Decimal":"x"}', "is damaged"),
        (b'{"$datetime":["2026-13-01",0,null]}', "is damaged"),
        (b'{"$complex":[1,2]}', "has the type '$complex', which is not known here: update autocron-web"),
        (b'{"$enum":["os.system","ls"]}', "is a os.system, which is not registered here: let the app import"),
        (b'{"$enum":["test_codec.Color","__init__"]}', "is the member '__init__' of test_codec.Color"),
        (b" " * (1 << 20) + b"1", "has 1,048,577 bytes: autocron-web did not write it"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_reading_says(data: bytes, sentence: str) -> None:
    with pytest.raises(NotStorable) as caught:
        codec.loads(data)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"1", b"[]", b"[[],[]]", b"[{},{}]", b'[[],{"$dict":[[1,2]]}]', b"[[],{},1]"]
)
def test_a_call_has_its_form(data: bytes) -> None:
    with pytest.raises(NotStorable, match="a stored call is damaged"):
        codec.load_call(data)


@contract.holds("A time zone that the machine does not know is refused by its name.")
@pytest.mark.parametrize("key", ["Mars/Base", "Europe"])
def test_an_unknown_zone_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(
        NotStorable, match=f"the time zone '{key}' is not known on this machine: pip install tzdata"
    ):
        codec.loads(json.dumps({"$ZoneInfo": key}).encode())


@contract.holds("Names in stored data are never imported.")
def test_reading_and_importing_load_nothing(run_script: Any) -> None:
    script = run_script(
        "import sys\n"
        "before = set(sys.modules)\n"  # an editable install has some of them
        "from autocron_web import codec\n"
        "from autocron_web.errors import NotStorable\n"
        "codec.load_call(codec.dump_call((1, 'a', {'b': [(1,), {2}]}), {}))\n"
        "for name in ('wave.Error', 'colorsys', 'this'):\n"
        "    for tag in ('$enum', '$dataclass', '$' + name, '$datetime'):\n"
        "        try:\n"
        '            codec.loads((\'{"%s":["%s","x"]}\' % (tag, name)).encode())\n'
        "        except NotStorable:\n"
        "            print('refused')\n"
        "heavy = 'decimal uuid zoneinfo pathlib dataclasses wave colorsys this'.split()\n"
        "print([name for name in heavy if name in sys.modules.keys() - before])\n"
    )
    assert script.stdout == "refused\n" * 12 + "[]\n"


def test_each_sentence_of_the_page_is_held() -> None:
    assert contract.unheld() == []
