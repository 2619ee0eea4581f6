"""What the command line prints: tables that fit the terminal, JSON, nothing that could drive a terminal."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

COLOURS = {
    "pass": "green",
    "done": "green",
    "ready": "green",
    "running": "cyan",
    "warn": "yellow",
    "cancelled": "yellow",
    "loading": "yellow",
    "retiring": "yellow",
    "fail": "red",
    "error": "red",
}


def printable(text: object) -> str:
    """One line, in which each character that is not seen as itself is written as an escape.

    Names, errors and outputs come from apps and from their users: an escape sequence in them could set a
    terminal's title or type for its user, a bidirectional mark could show a name as another one.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in str(text))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def console() -> Console:
    """For tables. Nothing in a text is markup, an emoji or a link."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    return Console(markup=False, emoji=False, highlight=False)


def table(*columns: str) -> Table:
    """A table with these headings; the last column takes what is left of the line."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for heading in columns[:-1]:
        made.add_column(heading, no_wrap=True, overflow="ellipsis")
    made.add_column(columns[-1], overflow="fold", ratio=1)
    return made


def coloured(word: str) -> Any:
    """A state in its colour."""
    from rich.text import Text

    return Text(printable(word), style=COLOURS.get(word, ""))


def show_json(value: Any) -> None:
    """For scripts. ASCII only, so that it drives no terminal either."""
    click.echo(json.dumps(value, indent=2))


def local(moment: str | None) -> str:
    """A moment of the status document as this machine's clock shows it; without the date if it is today's."""
    if moment is None:
        return "–"
    then = datetime.fromisoformat(moment).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    """A length of time: "4 s", "3 min", "5 h", "2 d"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def since(moment: str | None) -> str:
    """For how long something has been so."""
    if moment is None:
        return "–"
    return span(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
