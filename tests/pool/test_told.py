"""Whose word rules among the app processes that live, and which modules workers are told."""

from __future__ import annotations

from typing import Any

import pytest

from autocron_web.pool.told import Told, Word

pytestmark = pytest.mark.once


def word(born: int, *names: str, main: dict[str, str] | None = None, **load: Any) -> Word:
    """A hello of a process that imported its code at the moment `born`."""
    usual = {"python": "python3", "env": {}, "path": ["/shop"], "cwd": "/shop", "database": "shop.db"}
    return Word(
        born,
        "2.0",
        {**usual, "argv": ["web"], "loader": None, "modules": [*names], "main": main, **load},
    )


def told(*words: Word) -> Told:
    """These have said hello in this order; each is its own peer."""
    told = Told()
    for each in words:
        told.join(each.born, each)
    return told


def test_the_newest_code_rules_as_long_as_its_process_lives_whoever_joins_first() -> None:
    older, newer = word(1), word(2, env={"A": "1"})
    for both in (told(older, newer), told(newer, older)):
        assert both.ruling is newer
        both.leave(2)
        assert both.ruling is older
        assert both.ruling is not None
        assert not both.ruling.loads_like(newer)


def test_the_last_word_stays_while_nobody_lives_and_rules_nobody_who_comes_then() -> None:
    both = told(word(1, "shop"), word(3, "shop", "late"))
    both.leave(1)
    both.leave(3)
    assert both.ruling is not None
    assert (both.ruling.born, both.modules) == (3, ["late", "shop"])
    both.join("older", word(2, "shop"))
    assert (both.ruling.born, both.modules, both.others) == (2, ["shop"], [])


def test_nobody_has_said_anything() -> None:
    nobody = Told()
    assert (nobody.ruling, nobody.modules, nobody.others, nobody.needs_main) == (None, [], [], False)
    assert nobody.would_rule(word(0))


def test_forks_have_one_code_and_the_one_that_joined_last_speaks_for_it() -> None:
    told = Told()
    first, second = word(1, "shop", env={"PID": "7"}), word(1, "shop", env={"PID": "8"})
    told.join("first", first)
    told.join("second", second)
    assert told.ruling is second
    assert first.loads_like(second)
    told.add_modules("first", ["late"])
    assert (told.modules, told.others) == (["late", "shop"], [])
    told.leave("second")
    assert (told.ruling, told.modules) == (first, ["late", "shop"])


def test_modules_are_those_of_the_living_and_are_needed_where_they_are_of_the_ruling_code() -> None:
    both = told(word(1, "shop", "old"), word(2, "shop", "new"))
    both.add_modules(1, ["late"])
    assert (both.modules, both.others) == (["new", "shop"], ["late", "old"])
    both.leave(1)
    assert (both.modules, both.others) == (["new", "shop"], [])
    both.add_modules(1, ["too_late"])
    assert (both.modules, both.others) == (["new", "shop"], [])


def test_the_main_module_of_another_program_goes_by_its_name() -> None:
    web, script = {"file": "/shop/web.py", "name": "web"}, {"file": "/shop/script.py", "name": "script"}
    both = told(word(1, "__main__", main=script), word(2, "__main__", main=web))
    assert (both.modules, both.others, both.needs_main) == (["__main__"], ["script"], True)
    both.leave(2)
    assert (both.modules, both.others, both.needs_main) == (["__main__"], [], True)
    same = told(word(1, "__main__", main=web), word(2, "web", main=web))
    assert (same.modules, same.others, same.needs_main) == (["web"], ["__main__"], False)
    session = told(word(1, "__main__", main=None), word(2, "web", main=web))
    assert (session.modules, session.others) == (["web"], [])


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"env": {"SHOP_SECRET": "x"}}, False),
        ({"path": ["/other"]}, False),
        ({"cwd": "/"}, False),
        ({"python": "/other/bin/python3"}, False),
        ({"loader": {"module": "shop", "factory": "make"}}, False),
        ({"env": {"SHLVL": "3", "_": "/usr/bin/env", "INVOCATION_ID": "5f"}}, True),
        ({"argv": ["gunicorn", "-w", "2"]}, True),
        ({"main": {"file": "/x.py", "name": "x"}}, True),
        ({"modules": ["late"]}, True),
        ({}, True),
    ],
)
def test_what_is_another_way_of_loading(change: dict[str, Any], alike: bool) -> None:
    assert word(1).loads_like(word(2, **change)) == alike
    assert word(2, **change).loads_like(word(1)) == alike


def test_only_newer_code_would_rule() -> None:
    one = told(word(5))
    assert [one.would_rule(word(born)) for born in (4, 5, 6)] == [False, False, True]
    one.leave(5)
    assert one.would_rule(word(4))
