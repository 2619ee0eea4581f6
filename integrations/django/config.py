"""`AUTOCRON` of a project's settings: what it says, and what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings

from ..errors import ConfigError
from ..settings import Settings, default_database, main_name

#: Django's own word: whether a call in a transaction waits for the commit.
ON_COMMIT = "ON_COMMIT"
KEYS = (*(word.upper() for word in Settings._fields), ON_COMMIT)


class Config(NamedTuple):
    """What the settings say."""

    settings: Settings
    on_commit: bool


class Problem(NamedTuple):
    """What is wrong, and the key that was probably meant."""

    sentence: str
    hint: str | None = None


def read() -> Config:
    """Raises `ConfigError` that says everything that is wrong."""
    problems = [problem.sentence for problem in find_problems()]
    if problems:
        raise ConfigError("; ".join(problems))
    given = _given()
    return Config(_settings(given), given.get(ON_COMMIT, True))


def find_problems() -> Iterator[Problem]:
    """Each key and each value that cannot be."""
    given = _given()
    if not isinstance(given, dict):
        yield Problem(f"AUTOCRON is {given!r}: give a dict such as {{'DATABASE': 'shop.db', 'WORKERS': 2}}")
        return
    for key, value in given.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key).upper(), KEYS, 1)
            yield Problem(
                f"AUTOCRON[{key!r}]: no such setting; there are {', '.join(KEYS)}",
                f"Did you mean {near[0]!r}?" if near else None,
            )
        elif key == ON_COMMIT and not isinstance(value, bool):
            yield Problem(f"{_spell(ON_COMMIT)} is {value!r}: it can be True or False")
        elif key != ON_COMMIT:
            yield from _wrong({"DATABASE": "any.db", key: value})
    if "DATABASE" not in given and given.get("AUTOSTART", True):
        yield from _wrong({})


def project() -> str:
    """The project's name: the package of its settings, however many settings it has for different places."""
    module: str | None = settings.SETTINGS_MODULE
    return module.partition(".")[0] if module else main_name() or "__main__"


def _given() -> Any:
    return getattr(settings, "AUTOCRON", {})


def _spell(word: str) -> str:
    return f"AUTOCRON[{word.upper()!r}]"


def _settings(given: dict[str, Any]) -> Settings:
    spelled = {_spell(key): value for key, value in given.items()}
    spelled.setdefault(_spell("status"), True)  # who includes the URLs has asked for it
    words = Settings.read(spelled.get, _spell, {})
    if words.database is None and words.autostart:
        words = words._replace(database=default_database(project(), _spell("database")))
    return words


def _wrong(given: dict[str, Any]) -> Iterator[Problem]:
    try:
        _settings(given)
    except ConfigError as error:
        yield Problem(str(error))
