"""More workers than the limit of open files seems to have room for, and fewer."""

from __future__ import annotations

import resource
import sys

import pytest

from autocron_web.launch import ask_monitor
from autocron_web.pool import room
from conftest import need, wait_until
from pool_app import App, app, look, pids  # noqa: F401

pytestmark = [pytest.mark.once, pytest.mark.skipif(sys.platform != "linux", reason="prlimit is of Linux")]

TELL = """
@autocron.delay
def limit(word):
    import resource
    note("limit", *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def run(app: App, workers: int, soft: int, hard: int, *calls: str) -> str:
    """Start the app with so many workers and such limits of open files; what it writes to stderr is kept."""
    app.add(TELL)
    app.file.write_text(app.file.read_text().replace("workers=2", f"workers={workers}"))
    limited = [need("prlimit"), f"--nofile={soft}:{hard}", sys.executable]
    script = app.run(*calls, through=limited, env={"AUTOCRON_PRELOAD": "off"})
    wait_until(lambda: app.lines("limit"), 40, script.stderr)
    return script.stderr


def test_the_monitor_takes_what_it_needs_and_tasks_have_the_limit_of_the_app(app: App) -> None:
    assert run(app, 12, 64, 4096, "limit:a") == ""
    wait_until(lambda: len(pids("worker")) == 12, 60, "12 workers")
    assert app.lines("limit") == [["limit", "64", "4096"]]
    (monitor,) = pids("monitor")
    assert resource.prlimit(monitor, resource.RLIMIT_NOFILE) == (4096, 4096)


@pytest.mark.parametrize("files", [90, 64])
def test_as_many_workers_as_there_is_room_for_and_a_word_about_the_others(app: App, files: int) -> None:
    said = run(app, 12, files, files, *["limit:a"] * 20)
    app.wait_for_counts(done=20)
    come = files // 2 // room.PER_WORKER
    wait_until(lambda: len(pids("worker")) == come, 30, f"{come} workers")
    sentence = f"{come} of 12 workers run: the limit of {files} open files has no room for more."
    assert said.startswith(f"autocron: {sentence} Raise it to 144 (")
    assert said.count("\n") == 1
    told = ask_monitor(app.store.name, 10)
    assert isinstance(told, dict)
    assert told["trouble"].startswith(sentence)
    reasons = look(app)["reasons"]
    assert [(reason["code"], reason["text"]) for reason in reasons] == [("worker_trouble", told["trouble"])]


@pytest.mark.parametrize("files", [40, 32])
def test_hardly_any_room(app: App, files: int) -> None:
    said = run(app, 12, files, files, *["limit:a"] * 20)
    app.wait_for_counts(done=20)
    assert "of 12 workers run" in said
    assert said.count("\n") == 1, said
    assert 1 <= len(pids("worker")) <= 3


@pytest.mark.parametrize(("size", "files"), [(40, 200), (170, 1024), (256, 1024)])
def test_what_is_advised_is_enough(monkeypatch: pytest.MonkeyPatch, size: int, files: int) -> None:
    monkeypatch.setattr(room, "limit", lambda: files)
    said = room.shortage(size)
    assert said is not None
    advised = int(said.partition("Raise it to ")[2].split()[0])
    monkeypatch.setattr(room, "limit", lambda: advised)
    assert room.shortage(size) is None
    assert room.most_workers() == size
