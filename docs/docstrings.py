"""For `make docs`: the lines `word: its meaning` of a docstring become a list, as they read in the source."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ARGUMENT = re.compile(r"(?P<words>\w+[\w ,()]*): ")


class Arguments(griffe.Extension):
    """Changes each docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)


def with_lists(text: str) -> str:
    """Paragraphs of which each line that is not indented begins with words and a colon, as Markdown lists."""
    return "\n\n".join(map(_as_list, text.split("\n\n")))


def _as_list(paragraph: str) -> str:
    lines = paragraph.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    if not heads or lines[0] != heads[0] or not all(map(_ARGUMENT.match, heads)):
        return paragraph
    return "\n".join(map(_as_item, lines))


def _as_item(line: str) -> str:
    return line if line.startswith(" ") else _ARGUMENT.sub(r"- **\g<words>**: ", line, count=1)
