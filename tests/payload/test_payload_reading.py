"""Reading what somebody else may have written: the sentences of docs/payload.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payload_cases import contract, quick, same, texts, values

from autocron_web import codec, tags
from autocron_web.errors import NotStorable

tag_names = st.sampled_from(sorted(tags._revivers) + sorted(tags._modules) + ["$", "$x", "a"])
contents = st.sampled_from(
    ["payload_cases.Color", "payload_cases.Right", "payload_cases.Address", "RED", "Europe/Berlin", "Europe",
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


@pytest.mark.once
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
        (b'{"$enum":["payload_cases.Color","__init__"]}', "is the member '__init__' of payload_cases.Color"),
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
