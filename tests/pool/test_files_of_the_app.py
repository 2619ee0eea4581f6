"""Workers have loaded the files that they have read, whatever clock dated these, and whoever wrote them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from conftest import Script
from pool_app import App, app, pids  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a template needs Linux")

PRELOAD = pytest.mark.parametrize("preload", ["on", "off"])

HOUR = 3600  # seconds

#: Each load of the app by the pool is noted. `version` is what a module had in it when it was read.
VERSION = """
import pathlib
BESIDE = pathlib.Path(LEDGER).parent
sys.path.insert(0, str(BESIDE))

if autocron.in_worker():
    note("loaded", os.getpid())

@autocron.delay
def version(word):
    note("version", part.VERSION)
    hold.call(word)
"""


def run_both(app: App, task: str = "hold", preload: str = "on") -> Script:
    """Both workers run a job, so they have come."""
    script = app.run(f"{task}:a", f"{task}:b", env={"AUTOCRON_PRELOAD": preload})
    app.wait_for("begin", count=2, timeout=40)
    return script


def ended(app: App, loads: int) -> None:
    """The workers have come with so many loads at most, and no more are on their way."""
    app.release("a")
    app.release("b")
    app.wait_for_states("done", "done")
    assert len(pids("worker")) == 2
    assert len(app.lines("loaded")) <= loads, app.lines("loaded")


@PRELOAD
@pytest.mark.parametrize("ahead", [HOUR, -30 * 365 * 24 * HOUR], ids=["ahead", "behind"])
def test_files_from_a_machine_whose_clock_is_another(app: App, preload: str, ahead: int) -> None:
    (app.file.parent / "part.py").write_text("VERSION = 1\n")
    app.add(VERSION + "\nimport part")
    for file in (app.file, app.file.parent / "part.py"):
        os.utime(file, (time.time() + ahead, time.time() + ahead))
    run_both(app, preload=preload)
    ended(app, loads=1 if preload == "on" else 2)


@PRELOAD
@pytest.mark.parametrize("when", ["before", "after", "elsewhere", "once"])
def test_an_app_that_writes_a_module_while_it_is_imported(app: App, preload: str, when: str) -> None:
    """Before it imports that, after it has, always another one, or one that it deletes then."""
    (app.file.parent / "part.py").write_text("VERSION = 0\n")
    name = "f'part{os.getpid()}'" if when in ("elsewhere", "once") else "'part'"
    write = f"BESIDE.joinpath({name} + '.py').write_text(f'VERSION = {{time.time_ns()}}\\n')"
    steps = {
        "before": (write, "import part"),
        "after": ("import part", write),
        "elsewhere": (write, f"part = __import__({name})", write),
        "once": (write, f"part = __import__({name})", f"os.unlink(BESIDE / ({name} + '.py'))"),
    }
    app.add("\n".join([VERSION, *steps[when]]))
    run_both(app, preload=preload)
    ended(app, loads=2)


@pytest.mark.once
@PRELOAD
def test_an_edit_while_the_app_is_loaded_is_noticed(app: App, preload: str) -> None:
    """By the template before it forks, and where there is none when the next app process joins."""
    part = app.file.parent / "part.py"
    part.write_text("VERSION = 1\n")
    app.add(VERSION + "\nimport part\nif autocron.in_worker(): hold.call('load')")
    script = app.start("version:a", "version:b", env={"AUTOCRON_PRELOAD": preload})
    app.wait_for("begin load", count=1 if preload == "on" else 2, timeout=40)
    part.write_text("VERSION = 22\n")
    app.release("load")
    script.wait_for("called")
    if preload == "off":
        app.wait_for("version 1", count=2)
        app.release("a")
        app.release("b")
        app.wait_for_states("done", "done")
        app.run("version:c", env={"AUTOCRON_PRELOAD": preload})
    assert app.wait_for("version 22", timeout=40)


@pytest.mark.once
def test_a_template_is_loaded_again_once_for_each_edit(app: App) -> None:
    part = app.file.parent / "part.py"
    part.write_text("VERSION = 1\n")
    app.add(VERSION + "\nimport part")
    run_both(app)
    for number in (2, 3):
        part.write_text(f"VERSION = {'1' * number}\n")
        os.kill(min(pids("worker")), 9)
        app.wait_for("loaded", count=number, timeout=40)
        app.wait_for("begin", count=number + 1, timeout=40)
        assert len(app.lines("loaded")) == number
    app.release("a")
    app.release("b")


@pytest.mark.once
def test_a_template_outlives_its_files(app: App) -> None:
    """A deploy deletes an older release: what has been loaded of it still forks workers."""
    part = app.file.parent / "part.py"
    part.write_text("VERSION = 1\n")
    app.add(VERSION + "\nimport part")
    run_both(app)
    part.unlink()
    os.kill(min(pids("worker")), 9)
    app.wait_for("begin", count=3, timeout=40)
    app.release("a")
    app.release("b")
    app.wait_for_states("done", "done")
    assert len(app.lines("loaded")) == 1


@pytest.mark.once
def test_an_app_in_a_zip_file(app: App, tmp_path: Path) -> None:
    """Its modules have no files of their own; the archive can be replaced."""
    import zipfile

    archive = tmp_path / "parts.zip"

    def write(version: int) -> None:
        with zipfile.ZipFile(archive.with_suffix(".new"), "w") as file:
            file.writestr("part.py", f"VERSION = {version}\n")
        archive.with_suffix(".new").rename(archive)

    write(1)
    app.add(VERSION + "\nsys.path.insert(0, str(BESIDE / 'parts.zip'))\nimport part")
    run_both(app, "version")
    assert len(app.lines("loaded")) == 1
    write(22)
    os.kill(min(pids("worker")), 9)
    app.wait_for("version 22", timeout=40)
    app.release("a")
    app.release("b")
