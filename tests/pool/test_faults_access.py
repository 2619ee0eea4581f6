"""Users, limits and strangers: who may not reach a pool, and what it cannot get. By fault number."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import autocron_web
from conftest import RunScript, cannot_run, need, pool_processes, wait_until
from pool_app import App, app, cpu_seconds, pids, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once

PACKAGE = Path(autocron_web.__file__).parent
USER = 54321  # nobody else's, so that nobody else's processes count for its limit


@pytest.fixture
def users_app(run_script: RunScript, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """An app all of whose files other users can reach."""
    if os.geteuid() != 0:
        cannot_run("only root can run a program as another user")
    home.chmod(0o777)
    app = App(run_script, home, home)
    for file in home.iterdir():
        file.chmod(0o666)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    yield app
    app.close()


def as_user() -> list[str]:
    """The command that runs a script as `USER`, by a Python that they can read."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            if not subprocess.run([python, "-c", "import autocron_web"], cwd="/", user=USER).returncode:
                return [need("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--clear-groups", python]
        except OSError:
            pass
    pytest.skip("other users cannot read any Python of this version, or not this checkout")


def test_35_another_user_may_not_open_the_store(users_app: App, home: Path) -> None:
    users_app.run("tell:a")
    users_app.wait_for("tell a")
    before = wait_for_pool()
    other = users_app.run("try_to:b", through=as_user())
    assert "started False" in other.stdout
    assert users_app.tried()[0] == "StoreError"
    assert re.search(rf"faults\.db.*[Uu]ser {USER}", other.stderr)
    assert "Traceback" not in other.stderr
    assert wait_for_pool() == before


def test_35_another_user_may_open_the_store_but_has_no_right_to_the_pool(users_app: App, home: Path) -> None:
    users_app.run("tell:a")
    users_app.wait_for("tell a")
    before = wait_for_pool()
    for file in home.glob("faults.db*"):
        if file.suffix not in (".lock", ".sock"):
            file.chmod(0o666)
    other = users_app.run("try_to:b", "try_to:c", through=as_user())
    assert "started False" in other.stdout
    assert users_app.tried()[0] == "stored"
    assert users_app.tried()[1] < 1500  # a call does not try again what has just failed
    assert "faults.db.lock" in other.stderr
    assert "Traceback" not in other.stderr
    users_app.wait_for("tell c")
    assert wait_for_pool() == before
    assert other.stderr.count("cannot start") < 5


def set_limit(pid: int, limit: int, values: tuple[int, int]) -> None:
    """Set the limit of a process of `USER`, as which root may not do it in every container."""
    code = f"import resource; resource.prlimit({pid}, {limit}, {values})"
    subprocess.run([*as_user(), "-c", code], cwd="/", check=True)


@pytest.mark.parametrize("limit", [resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC], ids=["files", "processes"])
def test_93_a_monitor_that_gets_nothing_more(users_app: App, limit: int) -> None:
    script = users_app.run("hold:r1", "hold:r2", through=as_user())
    users_app.wait_for("begin", count=2)
    users_app.release("r1")
    users_app.release("r2")
    (monitor,), workers = wait_for_pool()
    before = resource.getrlimit(limit)
    left = len(os.listdir(f"/proc/{monitor}/fd")) if limit == resource.RLIMIT_NOFILE else 1
    set_limit(monitor, limit, (left, before[1]))
    os.kill(workers.pop(), signal.SIGKILL)
    wait_until(lambda: "a worker cannot start" in script.stderr, 10, "the sentence")
    with connections(users_app, 8):
        users_app.run("tell:b", through=as_user())  # for the worker that is left
        users_app.wait_for("tell b")
        used = cpu_seconds(monitor)
        time.sleep(1)  # in which it has nothing to do
        assert cpu_seconds(monitor) - used < 0.3
    assert "open files" in script.stderr or "unavailable" in script.stderr
    assert script.stderr.count("a worker cannot start") <= 2  # once more for the newer app process
    assert script.process.poll() is None
    set_limit(monitor, limit, before)
    wait_for_pool(timeout=15)
    assert pids("monitor") == {monitor}


@contextmanager
def connections(app: App, number: int) -> Iterator[list[socket.socket]]:
    """So many connections to the monitor."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(number)]
        for each in found:
            each.connect(f"{app.store.name}.sock")
        yield found


def bound_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def test_96_the_socket_of_a_killed_monitor_is_replaced(app: App, home: Path) -> None:
    bound_socket(home / "faults.db.sock").close()
    assert "started True" in app.run("tell:a").stdout
    app.wait_for("tell a")


@pytest.mark.parametrize("what", ["file", "link", "socket"])
def test_96_what_is_in_the_way_is_neither_followed_nor_deleted(
    app: App, home: Path, tmp_path: Path, what: str, run_script: RunScript
) -> None:
    stranger = None
    place = home / "faults.db.sock"
    foreign = home / "foreign.sock"
    with bound_socket(foreign) as listener:
        listener.listen()
        listener.setblocking(False)
        if what == "file":
            place.write_text("mine")
        elif what == "link":
            place.symlink_to(foreign)
        else:
            if os.geteuid() != 0:
                cannot_run("only root can make a socket of another user")
            home.chmod(0o777)
            file = tmp_path / "stranger.py"
            file.write_text(STRANGER)
            stranger = run_script(file, place, USER, wait=False)
            stranger.wait_for("listening")
        script = app.run("try_to:a", "try_to:b")
        assert "started False" in script.stdout
        assert 0 < script.stderr.count("faults.db.sock is in the way") < 4
        assert "Traceback" not in script.stderr
        assert app.tried()[0] == "stored"
        assert app.tried()[1] < 500
        wait_until(lambda: not pool_processes(), 5, "the end of the monitors that cannot start")
        with pytest.raises(BlockingIOError):
            listener.accept()
        if stranger is not None:
            assert "heard 1" not in stranger.stdout
        assert place.is_symlink() == (what == "link")
        assert place.exists()
        place.unlink()
        app.run("tell:c")  # the way is free
        app.wait_for("tell", count=3)


STRANGER = """
import os, socket, sys
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    print("heard", len(listener.accept()[0].recv(1)), flush=True)
"""


def test_97_strangers_at_the_socket(app: App) -> None:
    monitor, workers = app.run_idle()
    used = cpu_seconds(monitor)
    header = struct.Struct(">BBIII")
    hello = header.pack(1, 1, 0, 2, 0) + b"{}"
    messages = [
        b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), header.pack(1, 1, 0, 2**31, 2**31), hello,
        header.pack(1, 99, 0, 0, 0), header.pack(1, 4, 0, 2, 0) + b"[]", header.pack(1, 5, 0, 4, 0) + b"null",
    ]  # fmt: skip
    with connections(app, 400) as knocks:
        for number, knock in enumerate(knocks):
            with suppress(BrokenPipeError):  # there are too many of them
                knock.sendall(messages[number % len(messages)] if number % 2 else b"\1")  # and never goes on
        script = app.run("tell:b")
        app.wait_for("tell b")
    app.run("tell:c")
    app.wait_for("tell c")
    assert wait_for_pool() == ({monitor}, workers)
    assert cpu_seconds(monitor) - used < 2
    assert "Traceback" not in script.stderr
