"""What `NotStorable` says of a value that the codec refuses: where it is, what it is, what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .tags import MAX_DEPTH, Refused, TooDeep, fields, has, is_known


def sentence(refused: Refused, whole: object, label: str, it: str, give: str) -> str:
    """The message, where `whole` is what the caller gave; `label` and `it` name it in words and in code.

    `give` is what one does with it: "pass" an argument, "return" a result.
    """
    if isinstance(refused, TooDeep):
        cyclic = _contains_itself(whole, ())
        trouble = "contains itself" if cyclic else f"is nested deeper than {MAX_DEPTH} levels"
        return f"{label} {trouble}: {give} a flat list of its parts, or their ids"
    steps = _steps_to(refused.value, whole, MAX_DEPTH) or ""
    way_out = refused.way_out or _way_out(type(refused.value))
    way_out = way_out.format(give=give, it=it + steps)
    return f"{label}{steps} ({_type_name(type(refused.value))}) cannot be stored: {way_out}"


_PLAIN = (str, int, float, bytes, list, tuple, dict, set, frozenset)
_EXACT = ", because only exact types come back as they were"
_STANDS_FOR = "it only stands for another object, {give} what the task needs of that, such as {it}"

_BY_NAME = {
    "bytearray": "{give} bytes({it})",
    "memoryview": "{give} bytes({it})",
    "SimpleLazyObject": _STANDS_FOR + ".pk",  # Django's request.user
    "LocalProxy": _STANDS_FOR + ".id",  # Flask's current_user
}
_TO_REGISTER = {
    "__dataclass_fields__": "register the class with autocron.register({name})",
    "_member_map_": "register the class with autocron.register({name})",  # an enum
    "_field_defaults": "{give} tuple({it}), or make the class a dataclass and register that",  # a namedtuple
}
_BY_ATTRIBUTE = {
    "model_dump": "{give} {it}.model_dump()",  # pydantic
    "pk": "{give} {it}.pk",  # Django
    "id": "{give} {it}.id",  # other object mappers
    "tolist": "{give} {it}.tolist()",  # numpy
    "utcoffset": "use a zone of zoneinfo, or datetime.timezone",
    "fileno": "{give} the path of the file, or what is in it",
    "__iter__": "{give} list({it})",
    "__call__": "{give} the values that it works on, and let the task call it",
}


def _way_out(kind: type) -> str:
    """What to do with a value of this type, as code that the user can copy."""
    if kind.__name__ in _BY_NAME:
        return _BY_NAME[kind.__name__]
    for attribute, way_out in _TO_REGISTER.items():
        if has(kind, attribute):
            return way_out.replace("{name}", kind.__name__)
    for base in kind.__mro__[1:-1]:
        if base in _PLAIN:
            return "{give} " + base.__name__ + "({it})" + _EXACT
        if is_known(base):
            return "{give} a plain " + _type_name(base) + _EXACT
    for attribute, way_out in _BY_ATTRIBUTE.items():
        if has(kind, attribute):
            return way_out
    return "{give} the values that the task needs of it, or make the class a dataclass and register it"


# -- where it is -------------------------------------------------------------------------------------------


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` contains, each with the code that leads to it."""
    kind = type(value)
    if kind is list or kind is tuple:
        yield from ((f"[{number}]", each) for number, each in enumerate(value))
    elif kind is dict:
        yield from ((f"[{_short(key)}]", each) for key, each in value.items())
        yield from ((".keys()[…]", key) for key in value)
    elif kind is set or kind is frozenset:
        yield from (("[…]", each) for each in value)
    elif is_known(kind) and has(kind, "__dataclass_fields__"):
        yield from ((f".{name}", getattr(value, name, None)) for name in fields(kind))
    elif is_known(kind) and has(kind, "tzinfo"):
        yield ".tzinfo", value.tzinfo


def _steps_to(target: object, value: object, room: int) -> str | None:
    if value is target:
        return ""
    for step, each in _inside(value) if room else ():
        steps = _steps_to(target, each, room - 1)
        if steps is not None:
            return step + steps
    return None


def _contains_itself(value: object, above: tuple[int, ...]) -> bool:
    if id(value) in above:
        return True
    above = (*above, id(value))
    return len(above) <= MAX_DEPTH and any(_contains_itself(each, above) for _, each in _inside(value))


def _short(key: object) -> str:
    if type(key) in (str, int, float, bool, bytes, type(None)):
        text = repr(key)
        return text if len(text) <= 50 else text[:40] + "…"
    return f"<{_type_name(type(key))}>"


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
