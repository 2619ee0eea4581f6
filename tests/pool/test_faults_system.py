"""What the system around a pool does: locks, pids, namespaces, versions, main modules. By fault number."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import autocron_web
from conftest import RunScript, cannot_run, need, pool_processes, wait_until
from pool_app import App, alive, app, cpu_seconds, pids, seconds_until, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once

PACKAGE = Path(autocron_web.__file__).parent


def as_process_1() -> list[str]:
    """The command that runs a script as process 1 of a pid namespace."""
    command = [need("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        cannot_run("a pid namespace cannot be made here: it takes root")
    return [*command, sys.executable]


def first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


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
    word, milliseconds = app.tried()
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
    while len(numbers("monitor")) > 1:  # what has launched it is about to end
        time.sleep(0.01)
    (monitor,), workers = numbers("monitor"), numbers("worker")
    autocron.leave()
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


def test_19_a_module_that_ends_every_worker_a_moment_later(app: App) -> None:
    app.add(
        'if __name__ != "__main__":\n    import threading\n    threading.Timer(0.1, os._exit, (3,)).start()'
    )
    script = app.run()
    seen: set[int] = set()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        seen |= pids("worker")
        time.sleep(0.01)
    assert 2 <= len(seen) <= 12
    assert script.stderr.count("a worker ended without a job") == 1


SERVER = """
import http.server, os, time

import autocron_web as autocron


@autocron.delay
def tell(word):
    with open(os.environ["LEDGER"], "a") as file:
        file.write(word)


print("started", autocron.start("faults.db", workers=2), flush=True)
tell("a")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), None).serve_forever()
"""


def test_20_a_script_without_a_guard_does_not_start_itself_again(
    run_script: RunScript, tmp_path: Path, app: App
) -> None:
    ledger = tmp_path / "serverledger"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    script = run_script(SERVER, env={"LEDGER": str(ledger), "PORT": str(port)}, wait=False)
    script.wait_for("started True")
    wait_until(ledger.exists, 15, "the run of the job")
    before = wait_for_pool()
    app.wait_for_counts(done=1)
    os.kill(min(before[1]), signal.SIGKILL)
    wait_until(lambda: len(pids("worker") - before[1]) == 1, 10, "another worker")
    wait_for_pool()
    assert app.store.counts() == {"done": 1}
    assert ledger.read_text() == "a"
    script.kill()


VERSION = """
@autocron.delay
def version(word):
    note("version", word, autocron.__version__)
"""


def test_69_two_versions_never_work_side_by_side(app: App, tmp_path: Path) -> None:
    app.add(VERSION)
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
