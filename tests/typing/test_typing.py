"""The types that users see, by both checkers, with the package installed as users install it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import need
from test_packaging import built, copy_of_the_clone, install, run_successfully  # noqa: F401

HERE = Path(__file__).parent
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]


@pytest.fixture
def python(built: dict[str, Path], install: Callable[..., Path]) -> Path:
    """A Python with nothing but the wheel: what it depends on is not needed to check users' code."""
    return install("--no-deps", built["wheel"])


def mypy(python: Path, file: Path) -> dict[int, str]:
    """The errors by line."""
    command = [need("mypy"), "--strict", "--python-executable", python, "--cache-dir", file.parent / "cache"]
    ended = subprocess.run(
        [*map(str, command), "--config-file=", file.name], cwd=file.parent, capture_output=True, text=True
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found = re.findall(rf"^{file.name}:(\d+): error: (.*)$", ended.stdout, re.MULTILINE)
    assert len(found) == ended.stdout.count(": error: "), ended.stdout  # none elsewhere, as in our own code
    return {int(line): message for line, message in found}


def pyright(python: Path, file: Path) -> dict[int, str]:
    (file.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [need("pyright"), "--outputjson", "--pythonpath", str(python), file.name]
    ended = subprocess.run(command, cwd=file.parent, capture_output=True, text=True)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found = json.loads(ended.stdout)["generalDiagnostics"]
    return {
        each["range"]["start"]["line"] + 1: each["message"] for each in found if each["severity"] == "error"
    }


def test_types_of_users_code(python: Path, tmp_path: Path) -> None:
    for name in ("right.py", "wrong.py"):
        file = tmp_path / name
        file.write_text((HERE / name).read_text())
        lines = file.read_text().splitlines()
        expected = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
        for checker in (mypy, pyright):
            found = checker(python, file)
            differ = {
                f"{name}:{number} {lines[number - 1]}": found.get(number, "no error")
                for number in sorted(expected ^ set(found))
            }
            assert differ == {}, checker.__name__
