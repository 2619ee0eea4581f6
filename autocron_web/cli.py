"""The command `autocron DATABASE …`, and the same commands for a framework's own command line.

`commands(database)` makes a click group of them, for a database that the framework knows:

    # flask autocron top
    app.cli.add_command(commands(lambda: app.config["AUTOCRON_DATABASE"]))
    # manage.py autocron top, in a management command
    commands(lambda: settings.AUTOCRON["DATABASE"]).main(argv, prog_name="manage.py autocron")

`database` is called when a command runs, and answers with what `start()` was given. Nothing here is imported
by an app, a monitor or a worker.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from . import cli_commands, cli_settings
from .cli_output import printable
from .errors import AutocronError
from .settings import database_path
from .store.sqlite import SqliteStore


class Database:
    """What all commands work on: the database, which is not made by looking at it, and how to answer."""

    def __init__(self, find: Callable[[], str | os.PathLike[str]], *, as_json: bool) -> None:
        self._find = find
        self._path: str | None = None
        self._store: SqliteStore | None = None
        self.as_json = as_json

    @property
    def path(self) -> str:
        """The absolute path. Raises `ConfigError`."""
        if self._path is None:
            self._path = database_path(self._find(), make=False)
        return self._path

    @property
    def store(self) -> SqliteStore:
        """The opened store. Raises `StoreError` where there is none."""
        self.open()
        assert self._store is not None
        return self._store

    def open(self) -> None:
        """Raise `StoreError` where there is no store, or one that cannot be used."""
        if self._store is None:
            self._store = SqliteStore(self.path, must_exist=True)
        self._store.open()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


class Refused(click.ClickException):
    """A sentence on stderr, and exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        return printable(self.message)


class Commands(click.Group):
    """The group. Without a `database` its first argument is that of the command line."""

    def __init__(self, database: Callable[[], str | os.PathLike[str]] | None = None) -> None:
        super().__init__(
            "autocron",
            params=cli_settings.options(),
            callback=cli_settings.run,
            invoke_without_command=True,
            commands=cli_commands.all_commands(),
            help="Look into a database of autocron-web, change its settings, and see its pool at work.",
            epilog="A relative DATABASE lies in AUTOCRON_HOME, else in ~/.autocron, as for start().",
        )
        self._database = database

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return pieces if self._database else ["DATABASE", *pieces]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        find = self._database
        if find is None:
            # The first word that is no option and no value of one, as argparse let the original have it.
            rest = self.make_parser(ctx).parse_args(list(args))[1]
            given = rest[0] if rest else None
            if given is not None:
                del args[len(args) - len(rest)]
            find = _missing_database if given is None else lambda: given
        if not args:
            args = ["--help"]
        rest = super().parse_args(ctx, args)
        ctx.obj = Database(find, as_json=ctx.params["as_json"])
        ctx.call_on_close(ctx.obj.close)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AutocronError as error:
            raise Refused(str(error)) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the end of a pager: click knows what to do
            raise Refused(f"{error.filename or 'the system refused'}: {error.strerror}") from None


def commands(database: Callable[[], str | os.PathLike[str]]) -> click.Group:
    """The commands as a group for a framework's command line; see above.

    Errors are told in a sentence, with exit code 2.
    """
    return Commands(database)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console scripts `autocron` and `autocron-web`."""
    Commands().main(list(sys.argv[1:] if arguments is None else arguments), prog_name="autocron")


def _missing_database() -> str:
    raise click.UsageError("Name the database first: autocron shop.db --info")
