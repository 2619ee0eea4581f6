"""The code of docs/testing.md runs as it stands, in a pytest of its own, as a user would have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import CHECKOUT, cannot_run

pytestmark = pytest.mark.once

PAGE = (CHECKOUT / "docs" / "testing.md").read_text()
FILES = {
    text.partition("\n")[0].removeprefix("# "): text
    for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files in a folder of their own."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a Python program in the folder, with a home in which it must not write; its output."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "AUTOCRON_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(home.iterdir()) == []
    return ended.stdout + ended.stderr


def pytest_of_a_user(folder: Path, *arguments: str) -> str:
    """Run pytest as a user does, who has done nothing but install autocron-web."""
    from importlib.metadata import entry_points

    if not any(point.value == "autocron_web.pytest_plugin" for point in entry_points(group="pytest11")):
        cannot_run("autocron-web is not installed since it has a plugin: make check")
    return run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def test_the_page_has_all_kinds_of_tests() -> None:
    assert set(FILES) == {
        "shop.py", "test_at_once.py", "test_recorded.py", "test_async.py", "test_unittest.py",
    }  # fmt: skip


TESTS = ["test_recorded.py", "test_async.py", "test_at_once.py"]
PASSED = f"{sum(FILES[name].count('def test_') for name in TESTS)} passed"


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    assert PASSED in pytest_of_a_user(folder, *TESTS)


@pytest.mark.once
@pytest.mark.matrix
def test_they_pass_in_several_processes(folder: Path) -> None:
    assert PASSED in pytest_of_a_user(folder, *reversed(TESTS), "-n", "2")


def test_without_pytest(folder: Path) -> None:
    assert "Ran 1 test" in run(folder, "test_unittest.py")
    assert "Ran 1 test" in run(folder, "-m", "unittest", "test_unittest")
