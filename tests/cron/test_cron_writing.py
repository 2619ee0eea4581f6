"""How a crontab is written: the sentences of docs/cron.md on fields, orders, keywords and days."""

from __future__ import annotations

import pytest
from cron_cases import at, contract, parse, shown, slots
from hypothesis import given, settings
from hypothesis import strategies as st

from autocron_web.cronfields import MINUTES, UNIX_DAYS_OF_WEEK, from_text, to_text
from autocron_web.crontab import Crontab
from autocron_web.slots import Every


@contract.holds(
    '`cron("…")` reads `minutes hours days_of_week months days`, and 0 is Monday.',
    '`cron(unix="…")` reads `minutes hours days months days_of_week`, and 0 and 7 are Sunday.',
    "A slot is at second 0 of its minute.",
)
def test_the_two_orders() -> None:
    monday = at("2026-11-02T00:00:30.5")
    assert shown(parse("30 9 0,2 * *"), monday, 3) == ["11-02 09:30", "11-04 09:30", "11-09 09:30"]
    for unix in ("30 9 * * 1,3", "30 9 * * mon,wed"):
        assert parse(unix, "unix").canonical == parse("30 9 0,2 * *").canonical == "30 9 * * mon,wed"
    assert (
        parse("0 0 6 * *").canonical
        == parse("0 0 * * 0", "unix").canonical
        == parse("0 0 * * 7", "unix").canonical
    )
    assert parse("0 5 * 3 31").canonical == parse("0 5 31 3 *", "unix").canonical == "0 5 31 3 *"
    assert [slot.second for slot in slots(parse("* * * * *"), monday, 3)] == [0, 0, 0]
    assert parse("* * * * *").next_after(at("2026-01-01T00:00")) == at("2026-01-01T00:01")


@contract.holds(
    "`*` allows all, `5` one, `1,5` each of a list, `9-17` all from 9 to 17.",
    "`*/15` allows every fifteenth from the lowest on, `9-17/2` and `20/10` those from 9 and from 20 on.",
    "Names can be written in capitals, and stand in lists and ranges.",
    "A range up to Sunday, such as `fri-sun`, can be written in both orders.",
)
def test_what_a_field_allows() -> None:
    assert parse("*/15 9-17/2 mon-wed,SAT jan,Mar-may 5/10").canonical == (
        "*/15 9,11,13,15,17 5,15,25 1,3-5 mon-wed,sat"
    )
    crontab = parse("* * * * *")
    fields = crontab.minutes, crontab.hours, crontab.days, crontab.months, crontab.days_of_week
    assert [len(field.numbers) for field in fields] == [60, 24, 31, 12, 7]
    assert parse("20/10 1,5 * * *").minutes.numbers == (20, 30, 40, 50)
    for crontab in (
        parse("0 0 fri-sun * *"),
        parse("0 0 * * fri-sun", "unix"),
        parse("0 0 * * fri-7", "unix"),
    ):
        assert crontab.days_of_week.numbers == (4, 5, 6)
    assert parse("0 0 * * sun-tue", "unix").days_of_week.numbers == (0, 1, 6)
    assert parse("0 0 * * */7", "unix").days_of_week.numbers == (6,)


@pytest.mark.once
@given(st.sets(st.integers(0, 59), min_size=1), st.integers(1, 59) | st.none())
@settings(max_examples=200, deadline=None)
def test_a_field_has_one_text_and_reads_it_back(numbers: set[int], step: int | None) -> None:
    text = ",".join(map(str, numbers)) + (f",*/{step}" if step else "")
    values = from_text(MINUTES, text, "")
    assert from_text(MINUTES, to_text(MINUTES, values), "") == values
    assert values.star == bool(step)
    assert set(values.numbers) == numbers | set(range(0, 60, step) if step else ())


def test_each_set_of_days_of_the_week_reads_back() -> None:
    for bits in range(1, 128):
        days = [day for day in range(7) if bits >> day & 1]
        crontab = Crontab.of(days_of_week=days, tz="UTC")
        assert parse(crontab.canonical, "unix").days_of_week.numbers == tuple(days)
    assert from_text(UNIX_DAYS_OF_WEEK, "mon-sun", "").numbers == tuple(range(7))


@contract.holds("`* 2 …` is due 60 times, from 02:00 to 02:59; `0 2 …` once.")
def test_a_star_in_the_minutes_is_sixty_runs() -> None:
    crontab = parse("* 2 * * *")
    found = shown(crontab, at("2026-01-01T00:00"), 61)
    assert (found[0], found[59], found[60]) == ("01-01 02:00", "01-01 02:59", "01-02 02:00")
    assert crontab.in_words() == "60 runs from 02:00 to 02:59 every day"
    assert shown(parse("0 2 * * *"), at("2026-01-01T00:00"), 2) == ["01-01 02:00", "01-02 02:00"]


@contract.holds(
    "`minutes`, `hours`, `days` or `dom`, `months`, and `days_of_week` or `dow` with 0 as Monday.",
    "A keyword takes a number, a name, a list of them, or a text as above; what is left out allows all.",
)
def test_keywords() -> None:
    whole = Crontab.of(minutes=[0, 30], hours=[9], days=[1], months=["jan", 3], days_of_week=[0, "wed"])
    assert whole.canonical == "0,30 9 1 1,3 mon,wed"
    assert Crontab.of(minutes=(0,), dow=0, dom="1-7").canonical == "0 * 1-7 * mon"
    assert Crontab.of(minutes=0, months="jan", dow=range(5)).canonical == "0 * * 1 mon-fri"
    assert Crontab.of(minutes="*/5", hours=["9-17"], dow={"sat"}).canonical == "*/5 9-17 * * sat"
    assert Crontab.of().canonical == "* * * * *"
    assert Crontab.of(hours=[2]).canonical == "* 2 * * *"


@contract.holds("Only a crontab that can be read in both orders, with different slots, is ambiguous.")
def test_ambiguous() -> None:
    for expression in ("0 2 1 * *", "0 2 * * 1", "0 2 * * 1-5", "0 2 */2 * *", "0 2 1 * 2"):
        assert parse(expression).ambiguous, expression
        assert not parse(expression, "unix").ambiguous
    for expression in ("0 2 * * *", "0 2 mon * *", "0 2 * * 20", "0 2 0 * *", "* * * 1 *"):
        assert not parse(expression).ambiguous, expression


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0,30 * * * *", "every 30 minutes"),
        ("0 * * * *", "every hour at minute 0"),
        ("5,10-12 * * * *", "every hour at minutes 5 and 10 to 12"),
        ("0 2 * * *", "at 02:00 every day"),
        ("30 9,17 0-4 * *", "at 09:30 and 17:30 on Monday to Friday"),
        ("0 2 5,6 * *", "at 02:00 on Saturday and Sunday"),
        ("0 2 * * 1,2,3,11,22,31", "at 02:00 on the 1st to 3rd, 11th, 22nd and 31st"),
        ("0 2 0 * 15", "at 02:00 on the 15th and also on Monday"),
        ("0 2 * 1,3-5 *", "at 02:00 every day in January and March to May"),
        ("* * * 1 *", "every minute in January"),
        ("* * 6 * *", "every minute on Sunday"),
        ("*/20 9-17 * * *", "27 runs from 09:00 to 17:40 every day"),
        ("0 0-23/2 * * *", "12 runs from 00:00 to 22:00 every day"),
    ],
)
def test_in_words(expression: str, words: str) -> None:
    assert parse(expression).in_words() == words
    assert Every(90).in_words() == "every 90 seconds"


@contract.holds(
    "A day field is set if it is anything but `*` or `*/1`.",
    "`*/2` in a day field is a set field like others, so here too either is enough.",
)
def test_days() -> None:
    november = at("2026-11-01T12:00")  # a Sunday
    assert shown(parse("0 0 mon * 15"), november, 4) == [
        "11-02 00:00",
        "11-09 00:00",
        "11-15 00:00",
        "11-16 00:00",
    ]
    assert shown(parse("0 0 mon * */1"), november, 2) == ["11-02 00:00", "11-09 00:00"]
    assert shown(parse("0 0 mon * 1-31"), november, 2) == ["11-02 00:00", "11-03 00:00"]
    assert shown(parse("0 0 mon * */2"), november, 3) == ["11-02 00:00", "11-03 00:00", "11-05 00:00"]
    assert shown(parse("0 0 */2 * 31"), november, 2) == ["11-02 00:00", "11-04 00:00"]
    assert shown(parse("0 0 * * 31"), at("2026-01-31T00:00"), 3) == [
        "03-31 00:00",
        "05-31 00:00",
        "07-31 00:00",
    ]
    assert [slot.year for slot in slots(parse("0 0 * 2 29"), at("2026-01-01"), 3)] == [2028, 2032, 2036]
    assert parse("0 0 * 2 29").next_after(at("2096-03-01")) == at("2104-02-29")
