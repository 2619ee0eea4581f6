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

from ..errors import AutocronError
from . import options, subcommands
from .database import Database
from .output import printable


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
            params=options.options(),
            callback=options.run,
            invoke_without_command=True,
            commands=subcommands.all_commands(),
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
