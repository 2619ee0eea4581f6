"""Signed pickles: what is unpickled, and what is not. docs/pickle.md is the contract."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autocron_web as autocron
from autocron_web import execution, pickles
from autocron_web.engine import engine
from autocron_web.errors import ConfigError, NotStorable, StoreError
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

NAMES = "shop.greet", "018f-1"


class Trap:
    """Says that it was unpickled."""

    sprung: list[str] = []

    def __reduce__(self) -> tuple[object, ...]:
        return (self.sprung.append, ("sprung",))


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(engine, "key_file", str(tmp_path / "shop.db.key"))
    monkeypatch.setattr(pickles, "_keys", {})
    Trap.sprung.clear()
    yield tmp_path / "shop.db.key"
    assert Trap.sprung == []


def as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has not read the key yet."""
    monkeypatch.setattr(pickles, "_keys", {})


def test_arguments_and_results_come_back() -> None:
    data = pickles.dump_call(*NAMES, (1, {2, 3}), {"error": KeyError("x").args})
    assert pickles.load_call(*NAMES, data) == ((1, {2, 3}), {"error": ("x",)})
    assert pickles.load_result(*NAMES, pickles.dump_result(*NAMES, range(3))) == range(3)


def test_whatever_was_changed_is_not_unpickled() -> None:
    data = pickles.dump_call(*NAMES, (Trap(),), {})
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(NotStorable, match="is not unpickled"):
            pickles.load_call(*NAMES, bytes(changed))
    for short in (b"", data[:1], data[:5], data[:36], data[:37], pickle.dumps(Trap())):
        with pytest.raises(NotStorable, match="is not unpickled"):
            pickles.load_call(*NAMES, short)


def test_a_signature_holds_for_one_purpose() -> None:
    data = pickles.dump_call(*NAMES, (Trap(),), {})
    for other in (("shop.delete", NAMES[1]), (NAMES[0], "018f-2"), ("shop.greet018f-1", "")):
        with pytest.raises(NotStorable, match="somebody has changed it in the store"):
            pickles.load_call(*other, data)
    with pytest.raises(NotStorable, match=r"the result of shop\.greet is not what was signed"):
        pickles.load_result(*NAMES, data)


def test_another_key_is_told_from_a_change(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickles.dump_call(*NAMES, (Trap(),), {})
    monkeypatch.setenv("AUTOCRON_KEY", "ab" * 32)
    with pytest.raises(NotStorable, match="was signed with another key than this process has"):
        pickles.load_call(*NAMES, data)
    monkeypatch.delenv("AUTOCRON_KEY")
    key_file.unlink()
    as_another_process(monkeypatch)
    with pytest.raises(StoreError, match=r"the key .*shop\.db\.key is gone"):
        pickles.load_call(*NAMES, data)


def test_a_task_that_takes_no_pickles_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def greet(name: object) -> None: ...

    task = autocron.delay(name="shop.greet")(greet)
    data = pickles.dump_call(*NAMES, (Trap(),), {})
    with pytest.raises(NotStorable, match=r"pickled, and shop\.greet takes no pickles"):
        execution.arguments(task, NAMES[1], "pickle", data)


def test_the_key_is_made_once_and_for_its_user_alone(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickles.dump_call(*NAMES, (1,), {})
    status = key_file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_size) == (0o600, 32)
    assert [path.name for path in key_file.parent.iterdir()] == ["shop.db.key"]
    as_another_process(monkeypatch)
    pickles.dump_call(*NAMES, (2,), {})
    assert key_file.stat().st_ino == status.st_ino
    assert pickles.load_call(*NAMES, data) == ((1,), {})
    assert key_file.read_bytes() not in data


def test_a_key_that_others_can_reach_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickles.dump_call(*NAMES, (1,), {})
    key_file.chmod(0o640)
    as_another_process(monkeypatch)
    with pytest.raises(StoreError, match="chmod 600"):
        pickles.dump_call(*NAMES, (1,), {})
    key_file.chmod(0o600)
    key_file.write_bytes(b"short")
    with pytest.raises(StoreError, match="has not 32 bytes"):
        pickles.dump_call(*NAMES, (1,), {})
    key_file.unlink()
    key_file.symlink_to(key_file.with_name("elsewhere"))
    with pytest.raises(StoreError, match="cannot be read"):
        pickles.dump_call(*NAMES, (1,), {})


@pytest.mark.parametrize("key", ["abc", "ab" * 31, "x" * 64])
def test_a_key_of_the_environment_that_is_none(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOCRON_KEY", key)
    with pytest.raises(ConfigError, match="AUTOCRON_KEY is not 32 bytes in hexadecimal") as caught:
        pickles.dump_call(*NAMES, (1,), {})
    assert key not in str(caught.value)


def test_what_cannot_be_pickled_or_is_too_large_is_refused() -> None:
    with pytest.raises(NotStorable, match="the arguments cannot be pickled: "):
        pickles.dump_call(*NAMES, (lambda: 1,), {})
    with pytest.raises(NotStorable, match=r"the arguments take 2,0.* bytes and the limit is 1,048,576"):
        pickles.dump_call(*NAMES, (bytes(2_000_000),), {})


def test_options_that_do_not_go_together() -> None:
    yaml: dict[str, Any] = {"serializer": "yaml"}
    with pytest.raises(ConfigError, match="it can be 'json' or 'pickle'"):
        autocron.delay(**yaml)
    with pytest.raises(ConfigError, match="use unique='task'"):
        autocron.delay(serializer="pickle", unique="args")
    with pytest.raises(ConfigError, match="is an option of the task, not of a call"):
        autocron.delay(len).options(**yaml)


# -- with a pool ---------------------------------------------------------------------------------------

TASKS = """
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y
        def __reduce__(self):
            note("pickled")
            return Point, (self.x, self.y)

    @autocron.delay(serializer="pickle")
    def mirror(point):
        return Point(point.y, point.x)

    @autocron.delay
    def plain(value):
        return value
    """


def test_objects_of_any_class_go_to_a_worker_and_back(way: Way, with_tasks: WithTasks, home: Path) -> None:
    with_tasks(TASKS)
    way("""
        r = mirror(Point(1, 2))
        point = r.get(10)
        equal((type(point).__name__, point.x, point.y), ("Point", 2, 1))
        raised(autocron.NotStorable, plain, Point(1, 2))
        (again,) = autocron.get_results(task="more.mirror")
        equal(again.result.x, 2)
        """)
    assert stat.S_IMODE((home / "shop.db.key").stat().st_mode) == 0o600


def test_a_class_of_the_main_module_goes_both_ways(run_script: object, home: Path, way: Way) -> None:
    way("""
        class Box:
            pass

        @autocron.delay(serializer="pickle")
        def pack(box):
            box.packed = True
            return box

        box = pack(Box()).get(10)
        equal((type(box) is Box, box.packed), (True, True))
        """)


@pytest.mark.once
def test_a_payload_that_somebody_has_put_into_the_store_is_not_unpickled(
    way: Way, with_tasks: WithTasks, home: Path, tmp_path: Path
) -> None:
    """Who can write to the store, and cannot read the key, runs no code by it."""
    with_tasks(TASKS)
    way("[mirror.options(hours=1).enqueue(Point(1, 2)) for _ in range(2)]; plain.options(hours=1).enqueue(1)")
    evil = pickle.dumps(((Evil(str(tmp_path / "sprung")),), {}))
    with sqlite3.connect(home / "shop.db") as connection:
        rows = connection.execute("SELECT id, task, payload FROM autocron_job ORDER BY seq").fetchall()
        first, second, third = rows
        for job, payload in ((first[0], first[2][:37] + evil), (second[0], first[2]), (third[0], evil)):
            connection.execute(
                "UPDATE autocron_job SET payload = ?, codec = 'pickle', due = 1 WHERE id = ?", (payload, job)
            )
    connection.close()
    way("""
        until(lambda: all(r.has_error for r in autocron.get_results()))
        errors = [r.error_message.splitlines()[-1] for r in autocron.get_results()][::-1]
        assert "is not what was signed" in errors[0] and "is not what was signed" in errors[1], errors
        assert "more.plain takes no pickles" in errors[2], errors
        """)
    assert not (tmp_path / "sprung").exists()


class Evil:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self._path,))
