"""What the system around a pool does: locks, limits, users, namespaces, files in the way. By fault number."""

from __future__ import annotations

import os
import re
import resource
import shutil
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
from pool_app import App, alive, app, pids, seconds_until, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once

PACKAGE = Path(autocron_web.__file__).parent
USER = 54321  # nobody else's, so that nobody else's processes count for its limit

FUNCTIONS = '''
def try_to(call):
    """Make a call; say whether it was stored, and how many milliseconds that took."""
    began = time.monotonic()
    try:
        tell(call)
        word = "stored"
    except Exception as error:
        word = type(error).__name__
    note("tried", word, int((time.monotonic() - began) * 1000))


def start_anew(word):
    note("began", word, os.getpid(), autocron.start("faults.db", workers=2))


def leave(word):
    autocron.engine.leave()


@autocron.delay
def version(word):
    note("version", word, autocron.__version__)
'''


@pytest.fixture(autouse=True)
def functions(app: App) -> None:
    app.add(FUNCTIONS)


def tried(app: App) -> tuple[str, int]:
    """What has become of the last `try_to`: stored, or the name of an exception; milliseconds."""
    _, word, milliseconds = app.lines("tried")[-1]
    return word, int(milliseconds)


def cpu_seconds(pid: int) -> float:
    """What the process has used of a processor, without its children (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def as_process_1() -> list[str]:
    """The command that runs a script as process 1 of a pid namespace."""
    command = [need("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        cannot_run("a pid namespace cannot be made here: it takes root")
    return [*command, sys.executable]


def first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def users_app(run_script: RunScript, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """An app all of whose files other users can reach."""
    if os.geteuid() != 0:
        cannot_run("only root can run a program as another user")
    home.chmod(0o777)
    app = App(run_script, home, home)
    app.add(FUNCTIONS)
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


def test_13_a_stopped_process_holds_the_lock(app: App, run_script: RunScript) -> None:
    app.run_idle()
    before = wait_for_pool()
    holder = run_script(
        "import sqlite3, sys, time\n"
        "store = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "store.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "time.sleep(300)\n",
        app.store.name,
        wait=False,
    )
    holder.wait_for("held")
    os.kill(holder.pid, signal.SIGSTOP)
    app.run("try_to:a")
    word, milliseconds = tried(app)
    assert word == "StoreBusy"
    assert 4900 < milliseconds < 7000
    holder.kill()
    app.run("tell:b")
    app.wait_for("tell b")
    app.wait_for_counts(done=3)  # the call that failed has left nothing
    assert wait_for_pool() == before


REUSE = '''
def numbers(role):
    """The processes of the pool in this role, and what else still has such a number."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline") as file:
                if entry.isdigit() and f"__main__.py\\0{role}\\0" in file.read():
                    found.append(int(entry))
        except OSError:
            pass
    return found


def reuse(word):
    """Kill the pool, and give the number of one of its workers to another process that leads a group."""
    (monitor,), workers = numbers("monitor"), numbers("worker")
    autocron.engine.leave()
    os.kill(monitor, signal.SIGKILL)
    for pid in (monitor, *workers):
        os.waitpid(pid, 0)  # this is process 1, to which all orphans fall
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(workers[0] - 1))
    innocent = subprocess.Popen(["sleep", "300"], process_group=0)
    assert innocent.pid == workers[0], (innocent.pid, workers)
    note("started", autocron.start("faults.db", workers=2))
    tell("b")
    while len(numbers("worker")) < 2:
        time.sleep(0.01)
    note("innocent", innocent.poll())
'''


def test_15_a_process_that_got_the_number_of_a_worker_is_left_alone(app: App) -> None:
    app.add(REUSE)
    script = app.run("hold:a", "hold:b", "reuse:", through=as_process_1())
    app.release("a")
    app.release("b")
    assert app.lines("started") == [["started", "True"]]
    assert app.lines("innocent") == [["innocent", "None"]]
    app.wait_for("tell b")
    os.kill(first_child(script.pid), signal.SIGTERM)
    assert script.wait() == 0


def test_app_as_process_1(app: App) -> None:
    script = app.run("tell:a", through=as_process_1())
    app.wait_for("tell a")
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: pids("monitor") - {monitor}, 10, "another monitor")
    wait_for_pool()
    script.kill()
    took = seconds_until(lambda: not pool_processes(), 10, "the end of the pool")
    assert took < 3  # the kernel ends all processes of the namespace, without a linger


def test_19_a_module_that_ends_every_worker(app: App) -> None:
    good = app.file.read_text()
    app.add('if __name__ != "__main__":\n    os._exit(3)')
    script = app.run("tell:a")
    (monitor,) = pids("monitor")
    seen: set[int] = set()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        seen |= pids("worker")
        time.sleep(0.01)
    assert 2 <= len(seen) <= 12
    assert cpu_seconds(monitor) < 1
    assert script.stderr.count("a worker cannot start") == 1
    assert "exited with status 3" in script.stderr
    app.file.write_text(good)
    app.run("tell:b")  # newer code is tried at once, however long the pause was
    took = seconds_until(lambda: len(app.lines("tell")) == 2, 10, "the runs of both jobs")
    assert took < 5


def test_35_another_user_may_not_open_the_store(users_app: App, home: Path) -> None:
    users_app.run("tell:a")
    users_app.wait_for("tell a")
    before = wait_for_pool()
    other = users_app.run("try_to:b", through=as_user())
    assert "started False" in other.stdout
    assert tried(users_app)[0] == "StoreError"
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
    assert tried(users_app)[0] == "stored"
    assert tried(users_app)[1] < 500  # a call does not try again what has just failed
    assert "faults.db.lock" in other.stderr
    assert "Traceback" not in other.stderr
    users_app.wait_for("tell c")
    assert wait_for_pool() == before
    assert other.stderr.count("cannot start") < 5


def test_69_two_versions_never_work_side_by_side(app: App, tmp_path: Path) -> None:
    newer = tmp_path / "newer" / "autocron_web"
    shutil.copytree(PACKAGE, newer, ignore=shutil.ignore_patterns("__pycache__"))
    text = (newer / "__init__.py").read_text()
    (newer / "__init__.py").write_text(re.sub(r'(?m)^__version__ = ".*"', '__version__ = "999.0"', text))
    app.run("hold:a", "version:b")
    app.wait_for("version b")
    ((_, _, busy),) = app.wait_for("begin a")
    (monitor,), _ = wait_for_pool()
    app.start("version:c", env={"PYTHONPATH": str(newer.parent)})
    wait_until(lambda: app.store.counts().get("waiting") == 1, 10, "the call of the newer one")
    app.release("a")
    app.wait_for("version c 999.0")
    wait_until(lambda: not alive(monitor), 10, "the end of the monitor that gives way")
    wait_for_pool()
    assert all(str(newer) in command for command in pool_processes().values())
    assert not alive(int(busy))
    app.run("version:d")  # of the older version, but started later: that is a deploy of it
    app.wait_for(f"version d {autocron_web.__version__}")
    wait_for_pool()
    assert all(str(PACKAGE) in command for command in pool_processes().values())
    app.wait_for_counts(done=4)
    assert {job.attempt for job in app.jobs()} == {1}


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
    assert script.stderr.count("a worker cannot start") == 1
    assert script.process.poll() is None
    set_limit(monitor, limit, before)
    wait_for_pool(timeout=15)
    assert pids("monitor") == {monitor}


def test_94_without_pidfds(app: App) -> None:
    fail = ["-e", "trace=pidfd_open", "-e", "inject=pidfd_open:error=ENOSYS"]
    script = app.run(
        "tell:a", through=[need("strace"), "-f", "-qq", "-o", "/dev/null", *fail, sys.executable]
    )
    app.wait_for("tell a")
    wait_for_pool()
    os.kill(first_child(script.pid), signal.SIGKILL)
    took = seconds_until(lambda: not pool_processes(), 15, "the end of the pool")
    assert took < 5 + 2 + 2  # the linger, a look each second, and strace's slowness


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
        assert tried(app)[0] == "stored"
        assert tried(app)[1] < 500
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
