"""What comes from other processes is looked at before it is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocron_web.errors import ConfigError, NotStorable, StoreBusy, StoreError
from autocron_web.jobs import Job
from autocron_web.pool.shapes import check_new, checked, request_of
from autocron_web.pool.wire import Frame, Kind, WireError, describe, error_of, pack_jobs, unpack_jobs

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

quick = settings(deadline=None, max_examples=60)

odd = (
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text()
    | st.sampled_from(["\ud800", "a\0b", [], {}, [[]], {"a": None}, [1, 2], "id"])
)  # fmt: skip

READY = {
    "tasks": ["shop.a"], "concurrency": {"shop.a": 2}, "reports": False, "modules": ["shop"],
    "crons": [["shop.c", "0 2 * * *", "UTC", [], "once", 3600.0, "skip", False, None]],
    "files": {"/shop.py": [1, 2]}, "stops": [["shop", "/shop.py", 7, "run()"]], "main": None,
    "missing": {"blog": "no module named blog"},
}  # fmt: skip
LOAD = {
    "python": "/python", "options": ["-O"], "env": {"A": "b"}, "path": ["/"], "argv": ["a"], "cwd": "/",
    "modules": ["shop"],
    "main": {"file": "/shop.py", "name": "shop"}, "loader": {"module": "shop"}, "database": "/shop.db",
}  # fmt: skip
HELLO = {"version": "1", "born": 7, "workers": None, "limits": [None, 5], "preload": False, "load": LOAD}
RETURNED = {"id": "1", "ok": True, "codec": "json", "seconds": 0.1}
RAISED = {"id": "1", "ok": False, "seconds": 0.1, "error_type": "ValueError", "error": "no", "output": None}
FRAMES: list[tuple[int, dict[str, Any]]] = [
    (Kind.READY, READY), (Kind.READY, {"trouble": "no"}), (Kind.HELLO, HELLO), (Kind.RESULT, RETURNED),
    (Kind.RESULT, RAISED), (Kind.RESULT, {"id": "1", "unknown": True}), (Kind.FREE, {}), (Kind.WAKE, {}),
    (Kind.WAKE, {"due": 7}), (Kind.WATCH, {"id": "1", "over": ["2"]}), (Kind.WATCH, {"over": []}),
    (Kind.CANCEL, {"id": "1"}), (Kind.MODULES, {"modules": ["shop"]}),
]  # fmt: skip
ASKED: list[dict[str, Any]] = [
    {"request": "progress", "id": "1", "note": [1, None, "a"]},
    {"request": "enqueue", "jobs": [[]]},
    {"request": "get", "id": "1", "patience": 1.0, "by": None},
    {"request": "jobs", "state": "done", "task": None, "limit": 5, "before": None},
    {"request": "cancel", "id": "1", "reason": "so"},
]
NEW = Job("1", "shop.a", 7, 7, payload=b"x", meta={"timeout": 5.0, "retries": 3}, expires=9)


def test_right_frames_pass() -> None:
    for kind, head in FRAMES:
        assert checked(Frame(kind, 0, head)).head is head
    for head in ASKED:
        assert request_of(Frame(Kind.ASK, 0, head)) == head["request"]
    check_new(NEW)


@quick
@given(st.sampled_from(FRAMES), st.data())
def test_a_wrong_frame_is_a_wire_error_and_nothing_else(
    frame: tuple[int, dict[str, Any]], data: st.DataObject
) -> None:
    kind, head = frame
    keys = st.sampled_from([*head, "due", "id", "ok", "spent", "pid"])
    other = {**head, **data.draw(st.dictionaries(keys, odd, max_size=3))}
    for key in data.draw(st.lists(keys, max_size=2)):
        other.pop(key, None)
    _only(WireError, lambda: checked(Frame(kind, 0, other)))


@quick
@given(st.sampled_from(ASKED), st.data())
def test_a_wrong_request_is_a_wire_error_and_nothing_else(head: dict[str, Any], data: st.DataObject) -> None:
    other = {**head, **data.draw(st.dictionaries(st.sampled_from([*head]), odd, min_size=1, max_size=3))}
    _only(WireError, lambda: request_of(Frame(Kind.ASK, 0, other)))


@quick
@given(st.dictionaries(st.sampled_from(Job._fields), odd, min_size=1, max_size=3))
def test_a_wrong_job_is_a_wire_error_and_nothing_else(fields: dict[str, Any]) -> None:
    _only(WireError, lambda: check_new(NEW._replace(**fields)))


@quick
@given(st.lists(odd | st.lists(odd, min_size=26, max_size=26), max_size=3), st.binary(max_size=50))
def test_rows_that_are_no_jobs_are_a_wire_error_and_nothing_else(rows: list[Any], blob: bytes) -> None:
    _only(WireError, lambda: unpack_jobs(rows, blob))


@pytest.mark.parametrize(
    ("kind", "head", "sentence"),
    [
        (Kind.READY, {**READY, "crons": [["\ud800", "", "", [], ""]]}, "'crons' is "),
        (Kind.READY, {**READY, "files": {"a": [None]}}, "'files' is "),
        (Kind.HELLO, {**HELLO, "load": {**LOAD, "env": {"A": 1}}}, "'load' is "),
        (Kind.HELLO, {**HELLO, "born": 10**30}, "'born' is "),
        (Kind.RESULT, {"id": "1", "ok": True}, "'codec' is missing"),
        (Kind.RESULT, {**RETURNED, "seconds": float("nan")}, "'seconds' is nan"),
        (Kind.RESULT, {**RETURNED, "reason": {}}, "'reason' is {}"),
        (Kind.WAKE, {"due": 10**400}, "'due' is 1000"),
        (Kind.WAKE, {"due": True}, "'due' is True"),
        (Kind.CANCEL, {"id": "\ud800"}, r"'id' is '\ud800'"),
        (Kind.MODULES, {"modules": [1]}, "'modules' is [1]"),
    ],
)
def test_what_is_wrong_is_said(kind: int, head: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WireError) as error:
        checked(Frame(kind, 0, head))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "\ud800"}, {"due": 2**63}, {"priority": 2**31},
        {"meta": {"timeout": "5"}},
        {"meta": {"result_ttl": 1e300}}, {"meta": []}, {"payload": "x"}, {"state": "running"}, {"epoch": 1},
        {"attempt": -5}, {"crashes": 1}, {"result": b""}, {"error": "x"}, {"id": 7},
    ],
)  # fmt: skip
def test_only_new_jobs_that_every_store_can_hold_are_taken(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        check_new(NEW._replace(**fields))


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("limit is odd"), StoreBusy("wait"), NotStorable("no"), OverflowError("too large"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), TypeError("no number"),
    ],
)  # fmt: skip
def test_an_error_travels_as_what_it_is(error: Exception) -> None:
    (described,) = _travelled({"error": describe(error)}).values()
    found = error_of(described)
    assert (type(found), str(found), found.args) == (type(error), str(error), error.args)


def test_an_error_of_anybody_else_is_one_of_the_store() -> None:
    class Strange(Exception):
        pass

    found = error_of(describe(Strange(object())))
    assert type(found) is StoreError
    assert str(found).startswith("Strange: <object object")
    large = error_of(describe(ValueError("x" * 9_000_000)))
    assert (type(large), len(str(large))) == (ValueError, 10_000)


def _travelled(head: dict[str, Any]) -> dict[str, Any]:
    from autocron_web.pool.wire import Decoder, encode

    (frame,) = Decoder().feed(encode(Frame(Kind.ANSWER, 1, head)))
    return frame.head


def _only(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        pass


def test_jobs_in_a_frame_are_those_that_were_put_into_it() -> None:
    rows, blob = pack_jobs([NEW])
    (found,) = unpack_jobs(rows, blob)
    check_new(found)
