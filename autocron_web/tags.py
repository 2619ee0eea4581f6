"""What JSON does not bring back exactly: an object with one key that starts with `$`, and the value again.

A tuple is `{"$tuple": [1, 2]}`. A dict of the user's with such a key is written as `$dict`, a list of keys
and values, so that nothing in it can be taken for a tag. Names in stored data are looked up in the tables of
this module, never imported: a row must not be able to name code to run (as in CVE-2021-23727).
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .errors import NotStorable
from .settings import importable, main_name

if TYPE_CHECKING:
    from pathlib import PurePath
    from zoneinfo import ZoneInfo

MAX_DEPTH = 100  # containers inside each other

# Larger integers are written in hex: a process may have limited decimals to as few as 640 digits
# (sys.set_int_max_str_digits), and reading them takes quadratic time.
BIG = 1 << 1024

to_json = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode

_Class = TypeVar("_Class", bound="type[Any]")
_Encode = Callable[[Any, int], Any]  # value, how many containers may still come inside each other


class Refused(Exception):
    """`value` cannot be stored: for its type, or as `way_out` says, which has places for {give} and {it}."""

    def __init__(self, value: object, way_out: str = "") -> None:
        self.value = value
        self.way_out = way_out


class TooDeep(Refused):
    """`value` is a container inside `MAX_DEPTH` others."""


def register(cls: _Class) -> _Class:
    """Make the members of an enum, or the instances of a dataclass, storable. Also a decorator.

        @autocron.register
        @dataclass
        class Address: ...

    The data carry the class's full name, so it must be registered wherever tasks are called or run: do it
    where the class is defined. Members travel by name, flags by number, dataclasses field by field without a
    call of `__init__`. Raises `NotStorable` for a class that could not come back exactly.
    """
    name = full_name(cls)
    natives = [base.__name__ for base in cls.__mro__[:-1] if base.__module__ == "builtins"]
    if not issubclass(cls, Enum) and not has(cls, "__dataclass_fields__"):
        raise NotStorable(f"{name} is neither an enum nor a dataclass: only those can be registered")
    if natives and not issubclass(cls, Enum):
        raise NotStorable(f"{name} is a dataclass and a {natives[0]}: a dataclass alone can be registered")
    if "<locals>" in name:
        raise NotStorable(f"{name} is defined inside a function, where no worker finds it: move it out")
    classes[name] = cls
    _encoders[cls] = _enum if issubclass(cls, Enum) else _dataclass
    return cls


# -- value → JSON ------------------------------------------------------------------------------------------


def tagged(value: Any, room: int = MAX_DEPTH) -> Any:
    """`value` in JSON's own types, with tags. Raises `Refused`."""
    kind = type(value)
    if encode := _encoders.get(kind):
        return encode(value, room)
    where = origin(kind)
    if where in _known:
        return {f"${kind.__name__}": tagged(_known[where].parts(value))}
    if where in _strings:
        return tagged(_strings[where](value))
    raise Refused(value)


def json_object(pairs: list[tuple[Any, Any]], room: int = MAX_DEPTH) -> Any:
    """The dict of these keys and already tagged values."""
    if all(type(key) is str and key[:1] != "$" and _str(key, 0) is key for key, _ in pairs):
        return dict(pairs)
    return {"$dict": [[tagged(key, room - 1), value] for key, value in pairs]}


def _all(values: Iterable[Any], room: int, whole: object) -> list[Any]:
    if not room:
        raise TooDeep(whole)
    return [tagged(value, room - 1) for value in values]


def _int(value: int, room: int) -> Any:
    return value if -BIG < value < BIG else {"$int": hex(value)}


def _float(value: float, room: int) -> Any:
    return value if isfinite(value) else {"$float": repr(value)}


def _str(value: str, room: int) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates; JSON would make one character of two
        return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}
    return value


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _set(value: Any, room: int) -> Any:
    # sorted, so that equal sets are equal bytes in every process
    return {f"${type(value).__name__}": sorted(_all(value, room, value), key=to_json)}


def _dict(value: dict[Any, Any], room: int) -> Any:
    return json_object(list(zip(value, _all(value.values(), room, value), strict=True)), room)


def _enum(value: Enum, room: int) -> Any:
    return {"$enum": [full_name(type(value)), value.value if isinstance(value, Flag) else value.name]}


def _dataclass(value: Any, room: int) -> Any:
    cls = type(value)
    names = list(fields(cls))
    for name in getattr(value, "__dict__", ()):
        # A cached_property makes its value again when asked; typing adds __orig_class__.
        if name not in names and not name.startswith("__") and not has(cls, name):
            raise Refused(value, f"its attribute {name!r} is no field of the dataclass, make it one")
    for name in names:
        if not hasattr(value, name):
            raise Refused(value, f"its field {name!r} has no value, give it one")
    contents = _all([getattr(value, name) for name in names], room, value)
    return {"$dataclass": [full_name(cls), dict(zip(names, contents, strict=True))]}


_encoders: dict[type, _Encode] = {
    type(None): lambda value, room: None,
    bool: lambda value, room: value,
    int: _int,
    float: _float,
    str: _str,
    bytes: lambda value, room: {"$bytes": _base64(value)},
    list: lambda value, room: _all(value, room, value),
    tuple: lambda value, room: {"$tuple": _all(value, room, value)},
    set: _set,
    frozenset: _set,
    dict: _dict,
}  # and what `register` adds


# -- JSON → value ------------------------------------------------------------------------------------------

classes: dict[str, type[Any]] = {}  # what `register` was given, by full name


def revived(found: dict[str, Any]) -> Any:
    """The value of one JSON object; what is inside it has had its turn. For `json.JSONDecoder`."""
    if not any(key[:1] == "$" for key in found):
        return found
    ((tag, content),) = found.items()
    if tag in _revivers:
        return _revivers[tag](content)
    if tag in _modules:  # so both names come from a table of this module, and not from the data
        module, name = _modules[tag], tag[1:]
        return _known[module, name].build(getattr(import_module(module), name), content)
    raise NotStorable(f"a stored value has the type {tag!r}, which is not known here: update autocron-web")


def _text(content: Any) -> str:
    if type(content) is not str:
        raise TypeError("not a text")
    return content


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise TypeError("not a list")
    return content


def _revived_set(content: Any) -> set[Any]:
    found = set(_list(content))
    if len(found) != len(content):
        raise ValueError("a member occurs twice")
    return found


def _revived_dict(content: Any) -> dict[Any, Any]:
    found = dict(map(_list, _list(content)))
    if len(found) != len(content):
        raise ValueError("a key occurs twice")
    return found


def _registered(name: Any) -> type[Any]:
    if _text(name) not in classes:
        raise NotStorable(
            f"a stored value is a {name}, which is not registered here:"
            " let the app import the module that calls autocron.register for it"
        )
    return classes[name]


def _revived_enum(content: Any) -> Any:
    name, member = _list(content)
    cls = _registered(name)
    if issubclass(cls, Flag):
        return cls(member)
    if member not in cls.__members__:
        raise NotStorable(f"a stored value is the member {member!r} of {name}, which no longer has it")
    return cls.__members__[member]


def _revived_dataclass(content: Any) -> Any:
    """Made without `__init__`, whose arguments and effects need not be those of the fields."""
    name, values = _list(content)
    cls = _registered(name)
    from dataclasses import MISSING

    if gone := values.keys() - fields(cls).keys():
        raise NotStorable(f"a stored {name} has the field {min(gone)!r}, which the class no longer has")
    found = object.__new__(cls)
    for key, field in fields(cls).items():
        if key in values:
            value = values[key]
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        elif field.default is not MISSING:
            value = field.default
        else:
            raise NotStorable(f"a stored {name} is older than its field {key!r}: give the field a default")
        object.__setattr__(found, key, value)
    return found


_revivers: dict[str, Callable[[Any], Any]] = {
    "$int": lambda content: int(_text(content), 16),
    "$float": lambda content: float(_text(content)),
    "$str": lambda content: a2b_base64(_text(content)).decode("utf-8", "surrogatepass"),
    "$bytes": lambda content: a2b_base64(_text(content)),
    "$tuple": lambda content: tuple(_list(content)),
    "$set": _revived_set,
    "$frozenset": lambda content: frozenset(_revived_set(content)),
    "$dict": _revived_dict,
    "$enum": _revived_enum,
    "$dataclass": _revived_dataclass,
}


# -- the standard library's types and frameworks' strings: known by name, so that nothing is imported --------


class _Known(NamedTuple):
    """How a value is taken apart into storable ones, and made again: `build(class, parts)`."""

    parts: Callable[[Any], Any]
    build: Callable[[Any, Any], Any]


def _path_text(value: PurePath) -> str:
    text = str(value)
    if type(value)(text) != value:  # PureWindowsPath("./a:b") before Python 3.12
        raise Refused(value, "{give} str({it})")
    return text


def _zone_key(value: ZoneInfo) -> str:
    if not value.key:
        raise Refused(value, "{give} a zone that was made by its name")
    return value.key


def _zone(cls: Any, key: Any) -> Any:
    try:
        return cls(_text(key))
    except (OSError, KeyError):  # a folder; ZoneInfoNotFoundError
        raise NotStorable(f"the time zone {key!r} is not known on this machine: pip install tzdata") from None


_clock = _Known(
    lambda value: [value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo],
    lambda cls, parts: cls.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=parts[2]),
)
_by_text = _Known(str, lambda cls, text: cls(_text(text)))
_by_path = _Known(_path_text, lambda cls, text: cls(_text(text)))

_known: dict[tuple[str, str], _Known] = {
    ("datetime", "datetime"): _clock,
    ("datetime", "time"): _clock,
    ("datetime", "date"): _Known(lambda value: value.isoformat(), lambda cls, text: cls.fromisoformat(text)),
    ("datetime", "timedelta"): _Known(
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda cls, parts: cls(*_list(parts)),
    ),
    # What pickle asks for: the offset, and the name if it was given one.
    ("datetime", "timezone"): _Known(
        lambda value: list(value.__getinitargs__()),
        lambda cls, parts: cls(*_list(parts)),
    ),
    ("zoneinfo", "ZoneInfo"): _Known(_zone_key, _zone),
    ("decimal", "Decimal"): _by_text,
    ("uuid", "UUID"): _by_text,
    ("pathlib", "PosixPath"): _by_path,
    ("pathlib", "WindowsPath"): _by_path,
    ("pathlib", "PurePosixPath"): _by_path,
    ("pathlib", "PureWindowsPath"): _by_path,
}
_modules = {f"${name}": module for module, name in _known}


def _exact_str(value: object) -> str:
    return str.__str__(str(value))  # str() of a SafeString is a SafeString


_strings: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("markupsafe", "Markup"): _exact_str,
    ("django.utils.safestring", "SafeString"): _exact_str,
    # What it stands for, not its str: that of an ngettext_lazy() without a number is "".
    ("django.utils.functional", "__proxy__"): lambda value: value._proxy____cast(),
    ("flask_babel.speaklater", "LazyString"): _exact_str,
}


# -- about classes, also for `refusals` --------------------------------------------------------------------


def origin(kind: type) -> tuple[str, str]:
    """The module and the name of a class."""
    module = f"{kind.__module__}"
    return ("pathlib" if module == "pathlib._local" else module), kind.__name__  # _local: Python 3.13


def is_known(kind: type) -> bool:
    """Whether values of exactly this type can be stored, if what they contain can."""
    return kind in _encoders or origin(kind) in _known or origin(kind) in _strings


def full_name(cls: type) -> str:
    """`module.Class`, where the main module has the name that workers import it by."""
    module = main_name() if importable(cls.__module__) == "__main__" else None
    return f"{module or cls.__module__}.{cls.__qualname__}"


def fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    from dataclasses import fields

    return {field.name: field for field in fields(cls)}


def has(kind: type, name: str) -> bool:
    """Whether a class has the attribute; unlike `hasattr` it runs nobody's code."""
    return any(name in vars(base) for base in kind.__mro__)
