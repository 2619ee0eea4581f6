"""Every type of docs/payload.md comes back exactly as it went in."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import pathlib
import sys
import zoneinfo
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payload_cases import (
    TYPES,
    Color,
    Level,
    Word,
    contract,
    quick,
    same,
    texts,
    there_and_back,
    values,
)

from autocron_web import codec


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


@pytest.mark.once
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


@pytest.mark.once
@contract.holds("It is plain JSON that any program can read.")
@quick
@given(values)
def test_any_mixture_of_types_comes_back_exactly(value: Any) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.once
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
def test_53_what_other_formats_change_comes_back_exactly(value: Any) -> None:
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


@pytest.mark.once
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
