"""What a process tells of how its app is loaded, however odd the process is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from autocron_web.hello import way_of_loading
from autocron_web.pool.wire import Decoder, Frame, Kind, encode


@pytest.fixture
def no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is deleted."""
    folder = tmp_path / "release-1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


def test_paths_are_seen_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", "../x", "/usr/lib", ".", "/a/../b/"])
    load = way_of_loading("/a.db", None)
    here = os.path.realpath(tmp_path)
    assert load["path"] == [here, f"{here}/lib", f"{os.path.dirname(here)}/x", "/usr/lib", here, "/b"]
    assert load["cwd"] == here


def test_without_a_current_folder_nothing_is_relative(
    no_folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", "/usr/lib", "lib"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "app.py", raising=False)
    load = way_of_loading("/a.db", None)
    assert (load["path"], load["cwd"], load["main"]) == (["/usr/lib"], "/", None)


def test_whatever_stands_in_a_process_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [Path("/x"), b"/y", None, 7, "/z", "/caf\udce9"])
    monkeypatch.setattr(sys, "argv", [Path("/app.py"), b"x", 3])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", Path("/srv/app.py"), raising=False)
    os.environb[b"AC_ODD"] = b"caf\xe9 \xff"
    try:
        load = way_of_loading("/a.db", None)
    finally:
        del os.environb[b"AC_ODD"]
    assert load["path"] == ["/z", "/caf\udce9"]
    assert load["argv"] == ["/app.py", "b'x'", "3"]
    (frame,) = Decoder().feed(encode(Frame(Kind.HELLO, 0, {"load": load})))
    told = frame.head["load"]
    assert os.fsencode(told["env"]["AC_ODD"]) == b"caf\xe9 \xff"
    assert json.loads(json.dumps(load)) == told


def test_without_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python is embedded."""
    monkeypatch.delattr(sys, "argv")
    assert way_of_loading(None, None)["argv"] == []
