"""Where the database is, and how configuration is read."""

from __future__ import annotations

import os
import pwd
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from autocron_web import settings
from autocron_web.errors import ConfigError, StoreError
from autocron_web.settings import Settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AUTOCRON_HOME", "STATE_DIRECTORY", "AUTOCRON_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_template_is_for_large_apps_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOCRON_PRELOAD", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    large = len(sys.modules)
    monkeypatch.setattr(settings, "MANY", large - 1)
    assert settings.preload()
    monkeypatch.setenv("AUTOCRON_PRELOAD", "off")
    assert not settings.preload()
    monkeypatch.setattr(settings, "MANY", 2 * large)
    monkeypatch.setenv("AUTOCRON_PRELOAD", "auto")
    assert not settings.preload()
    monkeypatch.setenv("AUTOCRON_PRELOAD", "On")
    assert settings.preload()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not settings.preload()
    monkeypatch.setenv("AUTOCRON_PRELOAD", "yes")
    with pytest.raises(ConfigError, match="AUTOCRON_PRELOAD is 'yes'; it can be 'auto', 'on' or 'off'"):
        settings.preload()


# -- the folder ------------------------------------------------------------------------------------


def test_relative_names_lie_in_the_home_of_the_user(tmp_path: Path) -> None:
    assert settings.database_path("shop.db") == f"{tmp_path}/.autocron/shop.db"
    assert (tmp_path / ".autocron").stat().st_mode & 0o777 == 0o700
    assert settings.database_path(Path("shop.db")) == f"{tmp_path}/.autocron/shop.db"
    assert list((tmp_path / ".autocron").iterdir()) == []  # a path is no file


def test_systemds_folder_goes_before_it_and_ours_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:{tmp_path}/other")
    assert settings.database_path("shop.db") == f"{tmp_path}/state/shop.db"
    monkeypatch.setenv("AUTOCRON_HOME", f"{tmp_path}/ours")
    assert settings.database_path("shop.db") == f"{tmp_path}/ours/shop.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOCRON_HOME", "here")
    assert settings.database_path("shop.db") == f"{tmp_path}/here/shop.db"
    monkeypatch.setenv("AUTOCRON_HOME", "")
    monkeypatch.setenv("STATE_DIRECTORY", "")
    assert settings.database_path("shop.db") == f"{tmp_path}/.autocron/shop.db"


def test_a_home_of_somebody_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's environment, kept by a server that has dropped its rights."""
    mine = pwd.getpwuid(os.geteuid()).pw_dir
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    assert settings.home() == os.path.join(pwd.getpwnam("nobody").pw_dir, ".autocron")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(StoreError, match="the user 4000000 has no home for the database: give an absolute"):
        settings.home()
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert settings.home() == os.path.join(mine, ".autocron")
    monkeypatch.delenv("HOME")
    assert settings.home() == os.path.join(mine, ".autocron")


def test_absolute_names_are_taken_as_they_are(tmp_path: Path) -> None:
    assert settings.database_path(f"{tmp_path}/shop.db") == f"{tmp_path}/shop.db"
    assert settings.database_path(tmp_path / "ä b.sqlite") == f"{tmp_path}/ä b.sqlite"
    assert list(tmp_path.iterdir()) == []


def test_two_ways_to_one_folder_are_one_database(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert settings.database_path(f"{tmp_path}/link/shop.db") == f"{tmp_path}/real/shop.db"
    assert settings.database_path(f"{tmp_path}/real/../link/./shop.db") == f"{tmp_path}/real/shop.db"


def test_a_link_that_is_the_name_of_the_file_leads_to_one_database(tmp_path: Path) -> None:
    for folder in ("real", "link", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "real" / "shop.db").touch()
    (tmp_path / "link" / "shop.db").symlink_to("../real/shop.db")
    (tmp_path / "other" / "jobs.db").symlink_to(tmp_path / "link" / "shop.db")
    for name in ("real/shop.db", "link/shop.db", "other/jobs.db"):
        assert settings.database_path(tmp_path / name) == f"{tmp_path}/real/shop.db"
        assert settings.database_path(tmp_path / name, make=False) == f"{tmp_path}/real/shop.db"


def test_a_relative_name_can_be_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "real.db").touch()
    (home / "shop.db").symlink_to(tmp_path / "real.db")
    assert settings.database_path("shop.db") == f"{tmp_path}/real.db"


@pytest.mark.parametrize("target", ["nowhere.db", "shop.db", "missing/shop.db"])
def test_a_link_that_leads_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "shop.db").symlink_to(target)
    with pytest.raises((StoreError, ConfigError)) as caught:
        settings.database_path(tmp_path / "shop.db")
    assert "is a link to a file that does not exist" in str(caught.value) or "make it first" in str(
        caught.value
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["shop.db"]


def test_a_file_with_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.db").touch()
    os.link(tmp_path / "shop.db", tmp_path / "backup.db")
    with pytest.raises(StoreError, match=r"shop\.db has 2 names \(hard links\).*find -samefile"):
        settings.database_path(tmp_path / "shop.db")
    (tmp_path / "backup.db").unlink()
    assert settings.database_path(tmp_path / "shop.db") == f"{tmp_path}/shop.db"


def test_only_the_folder_of_relative_names_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist: make it first"):
        settings.database_path(f"{tmp_path}/missing/shop.db")
    with pytest.raises(ConfigError, match=r"/\.autocron/sub of the database 'sub/shop.db' does not exist"):
        settings.database_path("sub/shop.db")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="does not exist: make it first"):
        settings.database_path(f"{tmp_path}/file/shop.db")


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOCRON_HOME", f"{tmp_path}/file/sub")
    with pytest.raises(StoreError) as error:
        settings.database_path("shop.db")
    assert str(error.value) == (
        f"the folder {tmp_path}/file/sub for the database 'shop.db' cannot be made (Not a directory):"
        " give an absolute path, or set AUTOCRON_HOME to a folder that you may write"
    )


# -- words -----------------------------------------------------------------------------------------


def read(config: dict[str, Any], **keywords: Any) -> Settings:
    return Settings.read(config.get, lambda word: f"AUTOCRON_{word.upper()}", keywords)


def test_keywords_go_before_the_configuration_and_that_before_the_defaults() -> None:
    assert read({}) == (None, None, False, "/autocron", None, True, None, None)
    words = read({"AUTOCRON_WORKERS": 3, "AUTOCRON_DATABASE": "a.db"}, workers=5, status=True)
    assert (words.workers, words.database, words.status) == (5, "a.db", True)


BY = " characters, such as those of secrets.token_urlsafe()"


@pytest.mark.parametrize(
    ("config", "keywords", "sentence"),
    [
        (
            {"AUTOCRON_WORKERS": "2"},
            {},
            "AUTOCRON_WORKERS is '2': give a whole number from 1 to 256",
        ),
        ({}, {"workers": 0}, "AUTOCRON_WORKERS is 0: give a whole number from 1 to 256"),
        ({"AUTOCRON_AUTOSTART": "no"}, {}, "AUTOCRON_AUTOSTART is 'no': it can be True or False"),
        ({}, {"status": 1}, "AUTOCRON_STATUS is 1: it can be True or False"),
        (
            {},
            {"worker": 2, "db": "x"},
            (
                "worker: no such setting; there are database, workers, status, url_prefix, token,"
                " autostart, max_jobs, max_memory. Did you mean workers?"
            ),
        ),
        ({}, {"url_prefix": "jobs"}, "AUTOCRON_URL_PREFIX is 'jobs': give a path such as '/autocron'"),
        ({}, {"url_prefix": "/"}, "AUTOCRON_URL_PREFIX is '/': give a path such as '/autocron'"),
        ({}, {"url_prefix": "/a/"}, "AUTOCRON_URL_PREFIX is '/a/': give a path such as '/autocron'"),
        ({}, {"url_prefix": "/a?b"}, "AUTOCRON_URL_PREFIX is '/a?b': give a path such as '/autocron'"),
        ({}, {"url_prefix": None}, "AUTOCRON_URL_PREFIX is None: give a path such as '/autocron'"),
        ({"AUTOCRON_TOKEN": "secret"}, {}, "AUTOCRON_TOKEN is a text of 6 characters: give at least 32" + BY),
        ({}, {"token": b"x" * 32}, f"AUTOCRON_TOKEN is {b'x' * 32!r}: give at least 32" + BY),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, Any], keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(config, **keywords)
    assert str(error.value) == sentence


def test_adapters_without_a_configuration_of_their_framework_take_keywords() -> None:
    assert Settings.of({"url_prefix": "/a/b-c_d.e", "token": "x" * 32})[3:5] == ("/a/b-c_d.e", "x" * 32)
    with pytest.raises(ConfigError, match=r"^workers is 0: give a whole number from 1 to 256$"):
        Settings.of({"workers": 0})


def test_a_database_needs_a_name_that_says_something() -> None:
    assert settings.default_database("shop", "AUTOCRON_DATABASE") == "shop.db"
    for name in ("app", "application", "main", "wsgi", "asgi", "__main__"):
        with pytest.raises(ConfigError) as error:
            settings.default_database(name, "AUTOCRON_DATABASE")
        assert str(error.value) == (
            f"the application is called {name!r}, as many are:"
            " name its database with AUTOCRON_DATABASE, such as 'shop.db'"
        )


@pytest.mark.parametrize("mode", ["pool", "inline", "off", "Inline"])
def test_the_mode(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.mode() == "pool"
    monkeypatch.setenv("AUTOCRON_MODE", mode)
    assert settings.mode() == mode.lower()


# -- the name of the main module ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "spec", "name"),
    [
        ("/srv/shop/application.py", None, "application"),
        ("shop.py", None, "shop"),
        ("/srv/my-shop.v2.py", None, "my-shop.v2"),
        ("/srv/shop/web.py", "shop.web", "shop.web"),
        ("/srv/shop/__main__.py", "shop.__main__", "shop.__main__"),
        (None, None, None),
        ("<stdin>", None, None),
    ],
)
def test_the_main_module_has_the_name_by_which_it_can_be_imported(
    file: str | None, spec: str | None, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = types.ModuleType("__main__")
    if file is not None:
        main.__file__ = file
    main.__spec__ = types.SimpleNamespace(name=spec) if spec else None  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)  # a test before may have made one
    assert settings.main_name() == name
