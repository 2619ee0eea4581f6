"""What frames to the monitor must look like. Whatever comes from another process is looked at here first.

A task can write to its worker's channel, and everybody who may use the store to the monitor's socket. What
is wrong costs the connection on which it came, and never meets code that believes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checks import MOST_NOTE, check_progress, is_span, is_storable
from ..errors import ConfigError
from ..jobs import STATES, Job
from ..settings import MOST_WORKERS
from .wire import Frame, Kind, WireError

Check = Callable[[Any], bool]

SMALLEST, LARGEST = -(2**63), 2**63 - 1  # what a column of every store can hold
MOST_JOBS = 1000  # in one frame: twice as many as a worker puts into one


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_name(value: Any) -> bool:
    """A text that every store can hold: an id, a task, a queue."""
    return isinstance(value, str) and is_storable(value)


def is_whole(value: Any) -> bool:
    return type(value) is int and SMALLEST <= value <= LARGEST


def is_number(value: Any) -> bool:
    """No bool, and neither without end nor no number at all."""
    return type(value) in (int, float) and SMALLEST <= value <= LARGEST


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def all_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def each_of(check: Check) -> Check:
    """An object with such values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _is_cron(row: Any) -> bool:
    """The rest of it is the timetable's to understand."""
    return isinstance(row, list) and len(row) > 4 and is_name(row[0])


def _is_stop(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 4


def _is_load(load: Any) -> bool:
    try:
        _look(load, _LOAD, needed=_LOAD)
    except WireError:
        return False
    return True


def _is_size(value: Any) -> bool:
    return is_whole(value) and 1 <= value <= MOST_WORKERS


def _are_limits(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(optional(is_whole), value))


_LOAD: dict[str, Check] = {
    "python": is_text, "options": all_of(is_text), "env": each_of(is_text), "path": all_of(is_text),
    "argv": all_of(is_text), "cwd": is_text, "main": optional(each_of(is_text)),
    "loader": optional(is_object), "database": optional(is_text), "modules": all_of(is_text),
}  # fmt: skip

_HELLO: dict[str, Check] = {
    "version": is_text, "born": is_whole, "workers": optional(_is_size), "limits": _are_limits,
    "preload": is_bool, "load": _is_load,
}  # fmt: skip

_READY: dict[str, Check] = {
    "tasks": all_of(is_text), "concurrency": each_of(is_whole), "crons": all_of(_is_cron), "reports": is_bool,
    "modules": all_of(is_text), "files": each_of(all_of(is_whole)), "stops": all_of(_is_stop),
    "main": optional(is_text), "missing": each_of(is_text),
}  # fmt: skip
_OF_TEMPLATES: dict[str, Check] = {"pid": is_whole, "unfit": optional(is_text)}

_RETURNED = ("id", "codec")
_RAISED = ("id", "error_type", "error")
_RESULT: dict[str, Check] = {
    "id": is_text, "ok": is_bool, "codec": lambda value: value in ("json", "pickle"), "seconds": is_number,
    "reason": optional(is_text), "error_type": is_text, "error": is_text, "output": optional(is_text),
    "files": each_of(all_of(is_whole)), "spent": is_text,
}  # fmt: skip


def checked(frame: Frame) -> Frame:
    """The frame, if it is one that the monitor can obey. Raises `WireError` that names what is wrong.

    A request of a task is not looked at: it is answered with what is wrong with it.
    """
    kind, head = frame.kind, frame.head
    if kind == Kind.RESULT:
        needed = ("id",) if "unknown" in head else _RETURNED if head.get("ok") else _RAISED
        _look(head, _RESULT, needed)
    elif kind == Kind.READY:
        if "trouble" in head:
            _look(head, {"trouble": is_text}, ())
        else:
            _look(head, _READY, _READY)
            _look(head, _OF_TEMPLATES, ())
    elif kind == Kind.FREE:
        _look(head, {"spent": is_text}, ())
    elif kind == Kind.WAKE:
        _look(head, {"due": is_whole}, ())
    elif kind == Kind.WATCH:
        _look(head, {"id": is_text, "over": all_of(is_text)}, () if "over" in head else ("id",))
    elif kind == Kind.CANCEL:
        _look(head, {"id": is_name}, ("id",))
    elif kind == Kind.MODULES:
        _look(head, {"modules": all_of(is_text)}, ("modules",))
    elif kind == Kind.HELLO:
        _look(head, _HELLO, _HELLO)
    return frame


def _look(head: Any, known: dict[str, Check], needed: Any) -> None:
    if not isinstance(head, dict):
        raise WireError("no object")
    for key in needed:
        if key not in head:
            raise WireError(f"{key!r} is missing")
    for key, value in head.items():
        is_right = known.get(key)
        if is_right is not None and not is_right(value):
            raise WireError(f"{key!r} is {repr(value)[:80]}")


# -- what a task may ask for -------------------------------------------------------------------------------


def _is_progress(note: Any) -> bool:
    if not isinstance(note, list) or len(note) != 3:
        return False
    done, total, text = note
    try:
        check_progress(done, total)
    except ConfigError:
        return False
    return text is None or (isinstance(text, str) and len(text) <= MOST_NOTE)


_ASKED: dict[str, dict[str, Check]] = {
    "progress": {"id": optional(is_text), "note": _is_progress},
    "enqueue": {"jobs": lambda rows: isinstance(rows, list) and 0 < len(rows) <= MOST_JOBS},
    "get": {"id": is_name},
    "jobs": {
        "state": lambda value: value is None or value in STATES, "task": optional(is_name),
        "limit": lambda value: is_whole(value) and value >= 0, "before": optional(is_whole),
    },
    "cancel": {"id": is_name, "reason": is_name},
}  # fmt: skip


def request_of(frame: Frame) -> str:
    """What is asked for, if it can be understood. Raises `WireError` that names what is wrong."""
    request = frame.head.get("request")
    if not isinstance(request, str) or request not in _ASKED:
        raise WireError(f"request {request!r}"[:80])
    _look(frame.head, _ASKED[request], _ASKED[request])
    if "patience" in frame.head:
        _look(frame.head, {"patience": is_number, "by": optional(is_text)}, ("by",))
    return request


_META_WORDS = ("retries", "backoff", "jitter", "timeout", "result_ttl", "failures")
_META: dict[str, Check] = dict.fromkeys(_META_WORDS, is_span)
_NEW = Job("", "", 0, 0)
_JOB: dict[str, Check] = {
    "id": is_name, "task": is_name, "due": is_whole, "created": is_whole, "kind": is_name, "queue": is_name,
    "priority": lambda value: is_whole(value) and abs(value) < 2**31, "unique_key": optional(is_name),
    "expires": optional(is_whole), "codec": is_name, "payload": lambda value: isinstance(value, bytes),
    "parent": optional(is_name), "meta": is_object,
}  # fmt: skip


def check_new(job: Job) -> None:
    """Raise `WireError` unless this is a job that waits to begin, and that every store can hold."""
    fields = job._asdict()
    _look(fields, _JOB, _JOB)
    _look(job.meta, _META, ())
    for key, value in fields.items():
        if key not in _JOB and value != getattr(_NEW, key):
            raise WireError(f"{key!r} of a new job is {repr(value)[:80]}")
