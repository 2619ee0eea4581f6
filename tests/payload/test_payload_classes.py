"""Registered classes, and the strings of frameworks: the sentences of docs/payload.md."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest
from payload_cases import Address, Color, Point, Right, contract, same, there_and_back

from autocron_web import codec, tags
from autocron_web.errors import NotStorable

# -- registered classes ----------------------------------------------------------------------------------

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
    with pytest.raises(NotStorable, match=r"test_payload_classes\.Plain is neither an enum nor a dataclass"):
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
    with pytest.raises(
        NotStorable, match=r"the member 'BLUE' of payload_cases\.Color, which no longer has it"
    ):
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
    monkeypatch.delitem(tags.classes, "payload_cases.Color")
    with pytest.raises(
        NotStorable, match=r"is a payload_cases\.Color, which is not registered here: let the app import"
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


# -- strings of frameworks -------------------------------------------------------------------------------


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
