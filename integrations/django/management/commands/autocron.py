"""`manage.py autocron …`: the command line of autocron-web, for the database of the project."""

from __future__ import annotations

import os
from argparse import REMAINDER
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, handle_default_options

from ....cli import commands
from ....errors import ConfigError
from ... import config


class Command(BaseCommand):
    """Hands its words on: `manage.py autocron --help` lists them."""

    help = "See autocron-web's pool at work, its tasks and results, and change its settings."
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """As Django calls it; the words are not parsed here, but for those that all commands have."""
        options = CommandParser(add_help=False, allow_abbrev=False)
        options.add_argument("--settings")
        options.add_argument("--pythonpath")
        known, words = options.parse_known_args(argv[2:])
        handle_default_options(known)
        self._run(words, f"{os.path.basename(argv[0])} {argv[1]}", standalone=True)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        self._run(["--help"], f"{os.path.basename(prog_name)} {subcommand}", standalone=True)

    def add_arguments(self, parser: CommandParser) -> None:
        """For `call_command("autocron", "status")`."""
        parser.add_argument("words", nargs=REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        self._run(options["words"], "autocron", standalone=False)

    def _run(self, words: list[str], name: str, *, standalone: bool) -> None:
        commands(_database).main(words, prog_name=name, standalone_mode=standalone)


def _database() -> str | os.PathLike[str]:
    found = config.read().settings.database
    if found is None:
        raise ConfigError("AUTOCRON['AUTOSTART'] is False: name the database with AUTOCRON['DATABASE'], too")
    return found
