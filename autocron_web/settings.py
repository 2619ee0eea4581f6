"""Where the store is, and the words of every adapter's configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from .errors import ConfigError, StoreError

DEFAULT_WORKERS = 2
MOST_WORKERS = 256
LEAST_TOKEN = 32  # characters of a token: fewer could be guessed
LONGEST_TTL = 100 * 365 * 86400  # seconds

#: Import names that say nothing about the application: adapters ask for a database name there.
GENERIC_NAMES = frozenset({
    "__main__", "app", "application", "asgi", "config", "core", "main", "project", "run", "server",
    "settings", "wsgi",
})  # fmt: skip


#: The mode where `AUTOCRON_MODE` says nothing. `autocron_web.testing.run_inline` changes it.
default_mode = "pool"


def mode() -> str:
    """`AUTOCRON_MODE`: `pool` (the default), `inline` (calls run at once) or `off` (nothing is started)."""
    value = os.environ.get("AUTOCRON_MODE", default_mode).lower()
    if value not in ("pool", "inline", "off"):
        raise ConfigError(f"AUTOCRON_MODE is {value!r}; it can be 'pool', 'inline' or 'off'")
    return value


#: An app whose process has more modules than this is loaded once for all workers: see `preload`.
MANY = 300


def preload() -> bool:
    """Whether the pool is to load the app once and fork the workers, which takes less memory.

    `AUTOCRON_PRELOAD`: `on`, `off` or `auto` (the default): on where the app's process has more than `MANY`
    modules, which is to say a framework: forks of a small app save next to nothing. Linux only. Raises
    `ConfigError` for anything else.
    """
    value = os.environ.get("AUTOCRON_PRELOAD", "auto").lower()
    if value not in ("auto", "on", "off"):
        raise ConfigError(f"AUTOCRON_PRELOAD is {value!r}; it can be 'auto', 'on' or 'off'")
    wanted = value == "on" or (value == "auto" and len(sys.modules) > MANY)
    return wanted and sys.platform == "linux"


def home() -> str:
    """The folder of relative names: `AUTOCRON_HOME`, else systemd's `STATE_DIRECTORY`, else `~/.autocron`.

    Where `HOME` belongs to somebody else (a server that was started by root and has dropped its
    rights), `~` is the home of the effective user in the password database.
    """
    chosen = os.environ.get("AUTOCRON_HOME")
    if chosen:
        return os.path.abspath(chosen)
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return state
    folder = os.path.expanduser("~")
    try:
        owned = os.stat(folder).st_uid == os.geteuid()
    except OSError:
        owned = False
    if not owned:
        import pwd

        try:
            folder = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            raise StoreError(
                f"the user {os.geteuid()} has no home for the database:"
                " give an absolute path, or set AUTOCRON_HOME"
            ) from None
    return os.path.join(folder, ".autocron")


def database_path(database: str | os.PathLike[str], *, make: bool = True) -> str:
    """The absolute path of the database file; makes the folder of relative names (0700), and no other one.

    make: False for those who only look.

    Links are followed, also one that is the file's name: lock, socket and key lie beside the file, and what
    has two names must not have two of them, nor two pools. Raises `ConfigError` for a name that cannot be a
    file, `StoreError` where the folder cannot be made, or where one name cannot be told from another.
    """
    try:
        name = os.fspath(database)
    except TypeError:
        name = None
    if not isinstance(name, str) or not name or name.endswith(os.sep) or "\0" in name:
        raise ConfigError(f"the database is {database!r}: give a file name ('shop.db') or an absolute path")
    if "://" in name:
        raise ConfigError(f"the database is {name!r}: of the stores only SQLite files can be used yet")
    if not os.path.isabs(name):
        folder = home()
        try:
            if make:
                os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {folder} for the database {name!r} cannot be made ({error.strerror}):"
                " give an absolute path, or set AUTOCRON_HOME to a folder that you may write"
            ) from None
        name = os.path.join(folder, name)
    path = os.path.realpath(name)
    folder = os.path.dirname(path)
    try:
        os.stat(os.path.join(folder, "."))
    except PermissionError:
        raise StoreError(
            f"the folder {folder} of the database {database!r} is closed to user {os.geteuid()}:"
            " let this user enter and write it, or use another one"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"the folder {folder} of the database {database!r} does not exist: make it first"
        ) from None
    except OSError as error:
        raise StoreError(
            f"the folder {folder} of the database {database!r} cannot be used: {error.strerror}"
        ) from None
    _refuse_names(name, path)
    return path


def _refuse_names(name: str, path: str) -> None:
    """Raise `StoreError` for a link that leads to no file, and for a file with a second name."""
    try:
        links = os.stat(path).st_nlink
    except OSError:
        if os.path.islink(name):
            raise StoreError(
                f"{name} is a link to a file that does not exist ({path}): remove the link, or correct it"
            ) from None
        return
    if links > 1 and os.path.isfile(path):
        raise StoreError(
            f"{path} has {links} names (hard links), and who uses another one would not see this one's locks"
            f" and jobs: remove the others (find -samefile {path}), or copy the file and use the copy"
        )


class StoreSettings(NamedTuple):
    """What the command line has set for everybody who uses a store; None where nothing is set."""

    max_workers: int | None = None
    result_ttl: int | None = None  # seconds
    autocron_lock: bool = False

    @classmethod
    def read(cls, rows: Mapping[str, str]) -> StoreSettings:
        """From `Store.settings()`. What the command line would not have written counts as not set."""
        workers, ttl = rows.get("max_workers", ""), rows.get("result_ttl", "")
        return cls(
            int(workers) if workers.isdecimal() and 1 <= int(workers) <= MOST_WORKERS else None,
            int(ttl) if ttl.isdecimal() and int(ttl) <= LONGEST_TTL else None,
            rows.get("autocron_lock", "").lower() in ("on", "true"),
        )


def warn(text: str) -> None:
    """A sentence for the app's log: what does not work, and what to do."""
    import logging

    logging.getLogger("autocron_web").error(text)


def check_limit(limit: Any, spelled: str) -> None:
    """Raise `ConfigError` unless it is a whole number of 1 or more, or None for no limit."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"{spelled} is {limit!r}: give a whole number, 1 or more")


def check_workers(workers: Any, spelled: str = "workers") -> None:
    """Raise `ConfigError` unless it is a number of workers, or None for the default."""
    if workers is None:
        return
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise ConfigError(f"{spelled} is {workers!r}: give a whole number from 1 to {MOST_WORKERS}")


#: The names of the main module: the second one is that of its copy in children of `multiprocessing`, which
#: are the processes of uvicorn with `workers=` or `reload=`, and of sanic.
_MAIN = ("__main__", "__mp_main__")


def importable(module: str) -> str:
    """A module's name in what workers are told, where `__main__` stands for the main module."""
    return "__main__" if module in _MAIN else module


def main_module() -> ModuleType | None:
    """The module that the program began with; in such a child, the copy that is being made of it."""
    return sys.modules.get("__mp_main__") or sys.modules.get("__main__")


def main_name() -> str | None:
    """The name by which the main module can be imported, or None in an interactive session.

    `python application.py` is `application`, as it is under `gunicorn application:app`, so that both
    give their tasks the same names; `python -m shop.web` is `shop.web`.
    """
    main = main_module()
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    file = str(getattr(main, "__file__", None) or "")  # whoever makes a module may have put a Path there
    if not file or file.startswith("<"):  # "<stdin>": a program that was piped into the interpreter
        return None
    if spec is not None:
        file = os.path.dirname(file)  # `python shop` executes shop/__main__.py
    return os.path.splitext(os.path.basename(file))[0]


def check_names(given: Iterable[str], words: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that is none of these words, with that which was probably meant."""
    for name in given:
        if name not in words:
            import difflib

            near = difflib.get_close_matches(name, words, 1)
            hint = f". Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name}: no such setting; there are {', '.join(words)}{hint}")


class Settings(NamedTuple):
    """The words that every adapter understands; the frameworks only spell them differently.

    database: `<name of the app>.db`. workers: 2. status: whether `<url_prefix>/status`, `/ready` and
    `/metrics` are answered. token: who sends it as `Authorization: Bearer …` may see more than a word there.
    autostart: whether the adapter calls `start()`. max_jobs, max_memory: as for `start()`.
    """

    database: str | None = None
    workers: int | None = None
    status: bool = False
    url_prefix: str = "/autocron"
    token: str | None = None
    autostart: bool = True
    max_jobs: int | None = None
    max_memory: int | None = None

    @property
    def pool(self) -> dict[str, Any]:
        """Those that are keywords of `start()`."""
        return {"workers": self.workers, "max_jobs": self.max_jobs, "max_memory": self.max_memory}

    @classmethod
    def read(
        cls, get: Callable[[str, Any], Any], spell: Callable[[str], str], keywords: dict[str, Any]
    ) -> Settings:
        """Keywords go before what `get(spell(word), default)` finds in the framework's configuration.

        Raises `ConfigError` that names the setting, its value and what it can be.
        """
        import re

        check_names(keywords, cls._fields)
        values = {word: get(spell(word), default) for word, default in cls._field_defaults.items()}
        values.update(keywords)
        check_workers(values["workers"], spell("workers"))
        for word in ("max_jobs", "max_memory"):
            check_limit(values[word], spell(word))
        for word in ("status", "autostart"):
            if not isinstance(values[word], bool):
                raise ConfigError(f"{spell(word)} is {values[word]!r}: it can be True or False")
        prefix, token = values["url_prefix"], values["token"]
        if not isinstance(prefix, str) or not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+", prefix):
            raise ConfigError(f"{spell('url_prefix')} is {prefix!r}: give a path such as '/autocron'")
        if token is not None and (not isinstance(token, str) or len(token) < LEAST_TOKEN):
            shown = f"a text of {len(token)} characters" if isinstance(token, str) else repr(token)
            raise ConfigError(
                f"{spell('token')} is {shown}: give at least {LEAST_TOKEN} characters,"
                " such as those of secrets.token_urlsafe()"
            )
        return cls(**values)

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> Settings:
        """For adapters that are configured by keywords alone. Raises `ConfigError` as `read` does."""
        return cls.read(lambda word, default: default, str, keywords)


def default_database(app_id: str, spelled: str) -> str:
    """`<app_id>.db`, unless the name says nothing; then a sentence asks for the setting `spelled`."""
    if app_id in GENERIC_NAMES:
        raise ConfigError(
            f"the application is called {app_id!r}, as many are:"
            f" name its database with {spelled}, such as 'shop.db'"
        )
    return f"{app_id}.db"
