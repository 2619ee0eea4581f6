"""What may be a secret, made unreadable: in arguments by their names, in texts by what precedes it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

HIDDEN = "[redacted]"
LONGEST = 4096  # characters of a text that are shown, from its end
MOST = 50  # values of a list or dict that are shown
DEEPEST = 8

_SECRET = re.compile(r"pass|secret|token|key|auth|cookie|card", re.IGNORECASE)
# A name with such a word in it, then `=` or `:`, then a value: quoted, or up to the next space or comma.
_ASSIGNED = re.compile(
    r"""([\w-]{0,40}?(?:pass|secret|token|key|auth|cookie|card)[\w-]{0,40}["']?\s{0,3}[=:]\s{0,3})"""
    r"""((?:(?:bearer|basic)\s+)?(?:"[^"\n]{0,500}"|'[^'\n]{0,500}'|[^\s,;)&]{1,500}))""",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(\w{1,20}://[^\s:/@]{0,200}:)[^\s@/]{1,200}@")

_FOLDERS = re.compile(r"""(?<![\w:/.~-])/(?:[^\s"'/:,;()]{1,255}/)+(?=[^\s/])""")


def text(value: str | None) -> str | None:
    """The end of an output, error or traceback, without what looks like a password in it."""
    if value is None:
        return None
    value = without_folders(value[-LONGEST:])
    return _CREDENTIALS.sub(rf"\1{HIDDEN}@", _ASSIGNED.sub(rf"\1{HIDDEN}", value))


def without_folders(value: str) -> str:
    """The text with only the names of files whose absolute paths stand in it."""
    return _FOLDERS.sub("", value)


def arguments(payload: bytes, codec: str, names: list[str], secret: Sequence[str] = ()) -> Any:
    """The arguments of a call as JSON.

    names: of the positional parameters, where known. secret: those that are never shown.

    Nothing is revived: a date is shown as it is stored. What is no JSON is not shown.
    """
    if codec != "json":
        return f"[{codec}]"
    try:
        positional, named = json.loads(payload)
        values = {str(number): value for number, value in enumerate(positional)}
        values = {names[int(key)] if int(key) < len(names) else key: value for key, value in values.items()}
        shown = visible({**values, **named})
        return {key: HIDDEN if key in secret else value for key, value in shown.items()}
    except (ValueError, TypeError, RecursionError):
        return "[damaged]"


def visible(value: Any, room: int = DEEPEST) -> Any:
    """A JSON value without what its keys say to be secret, and not larger than a page."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        if not room:
            return "{…}"
        pairs = list(value.items())[:MOST]
        return {key: HIDDEN if _SECRET.search(key) else visible(each, room - 1) for key, each in pairs}
    if isinstance(value, list):
        return [visible(each, room - 1) for each in value[:MOST]] if room else "[…]"
    return value
