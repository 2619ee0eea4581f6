"""Values ↔ bytes: strict JSON that comes back exactly as it went in. docs/payload.md is the contract.

Most arguments are texts, numbers, lists and dicts, which JSON itself brings back: one walk over their types
shows that, and they are written as they are. All others take the way through `tags`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from . import tags
from .errors import NotStorable

MAX_ARGUMENT_BYTES = 1 << 20
MAX_RESULT_BYTES = 1 << 20

register = tags.register


def dumps(value: object) -> bytes:
    """The bytes of one value, the result of a task. Raises `NotStorable`."""
    _refuse_giants((value,), MAX_RESULT_BYTES, "the result takes", "return")
    data = _plain_json(value) if _is_plain((value,), tags.MAX_DEPTH) else None
    if data is None:
        data = tags.to_json(_tagged(value, "the result", "result", "return")).encode()
    return within(MAX_RESULT_BYTES, data, "the result takes", "return")


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], *, names: Sequence[str] = ()) -> bytes:
    """The bytes of the arguments of one call. Raises `NotStorable`, which says which argument it is.

    `names` are those of the function's positional parameters.
    """
    _refuse_giants((*args, *kwargs.values()), MAX_ARGUMENT_BYTES, "the arguments take", "pass")
    data = None
    if _is_plain(args, tags.MAX_DEPTH) and _is_plain(kwargs.values(), tags.MAX_DEPTH):
        data = _plain_json([args, kwargs])
    if data is None:
        labels = [(f"argument {name!r}", name) for name in names[: len(args)]]
        labels += [(f"argument {i + 1}", "value") for i in range(len(labels), len(args))]
        positional = [_tagged(value, *label, "pass") for value, label in zip(args, labels, strict=True)]
        named = [(key, _tagged(value, f"argument {key!r}", key, "pass")) for key, value in kwargs.items()]
        data = tags.to_json([positional, tags.json_object(named)]).encode()
    return within(MAX_ARGUMENT_BYTES, data, "the arguments take", "pass")


def loads(data: bytes) -> Any:
    """The value that `dumps` was given. Raises `NotStorable`, whatever the bytes are."""
    if len(data) > max(MAX_ARGUMENT_BYTES, MAX_RESULT_BYTES):
        raise NotStorable(f"a stored value has {len(data):,} bytes: autocron-web did not write it")
    try:
        text = data.decode()
        return (_tagged_json if '"$' in text else _untagged_json).decode(text)
    except NotStorable:
        raise
    except Exception as error:  # anything may be in the bytes, so anything may go wrong
        raise NotStorable(
            f"a stored value is damaged: autocron-web did not write it ({type(error).__name__})"
        ) from error


def load_call(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The `args` and `kwargs` that `dump_call` was given. Raises `NotStorable`, whatever the bytes are."""
    call = loads(data)
    if type(call) is list and len(call) == 2:
        args, kwargs = call
        if type(args) is list and type(kwargs) is dict and (not kwargs or set(map(type, kwargs)) <= {str}):
            return tuple(args), kwargs
    raise NotStorable("a stored call is damaged: it is not a list of arguments and a dict of named ones")


def _is_plain(items: Iterable[Any], room: int) -> bool:
    """Whether JSON brings these back exactly, as far as types tell. `room`: containers that may still come.

    Exact types: json writes an IntEnum as a number, a namedtuple as a list, a str subclass as a str.
    """
    for item in items:
        kind = type(item)
        if kind is str or item is None or kind is bool or kind is float:
            continue
        if kind is int:
            if -tags.BIG < item < tags.BIG:
                continue
            return False
        if kind is dict:
            for key in item:
                if type(key) is not str:
                    return False
            item = item.values()
        elif kind is not list:
            return False
        if not room or not _is_plain(item, room - 1):
            return False
    return True


def _plain_json(value: object) -> bytes | None:
    """The JSON, or None if something in it needs a tag after all: nan, a lone surrogate, a key with `$`."""
    try:
        data = tags.to_json(value).encode()
    except ValueError:
        return None
    return None if b'"$' in data else data


def _tagged(value: object, label: str, it: str, give: str) -> Any:
    """`value` in JSON's own types; `label` and `it` are its name in a sentence and in code."""
    try:
        return tags.tagged(value)
    except tags.Refused as refused:
        from .refusals import sentence

        raise NotStorable(sentence(refused, value, label, it, give)) from None


def _refuse_giants(values: Iterable[Any], limit: int, takes: str, give: str) -> None:
    """Without making JSON of what is surely too much: a gigabyte of it would take three more."""
    for value in values:
        if isinstance(value, _SIZED) and len(value) > limit:
            raise _too_large(limit, f"{takes} more than {len(value):,}", give)


_SIZED = (str, bytes, list, tuple, dict, set, frozenset)


def within(limit: int, data: bytes, takes: str, give: str) -> bytes:
    """The data. Raises `NotStorable` if it is more than the limit."""
    if len(data) > limit:
        raise _too_large(limit, f"{takes} {len(data):,}", give)
    return data


def _too_large(limit: int, takes: str, give: str) -> NotStorable:
    return NotStorable(
        f"{takes} bytes and the limit is {limit:,}: keep the data in a file or a table, and {give} its name"
    )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_tagged_json = json.JSONDecoder(object_hook=tags.revived, parse_constant=_no_constant)
_untagged_json = json.JSONDecoder(parse_constant=_no_constant)
