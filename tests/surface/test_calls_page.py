"""The code of docs/calls.md runs as it stands, with a pool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autocron_web.options import Options
from conftest import CHECKOUT, RunScript

PAGE = CHECKOUT / "docs" / "calls.md"

SESSION = """
import doctest
import sys

import autocron_web as autocron
import shop  # its tasks are known before the pool starts

autocron.start("shop.db", workers=1, strict=True)
failures, tries = doctest.testfile(sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS)
assert tries > 15
autocron.stop(timeout=20)
sys.exit(failures)
"""


@pytest.mark.once
def test_the_session_is_what_the_page_shows(run_script: RunScript, tmp_path: Path) -> None:
    ((file, source),) = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / file).write_text(source)
    run_script(SESSION, PAGE)


def test_the_table_has_every_option() -> None:
    first_cells = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert named == {"weeks", "days", "hours", "minutes", "seconds", "name"} | set(Options._fields[1:])
