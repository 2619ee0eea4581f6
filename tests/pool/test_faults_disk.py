"""Disks that are full, or fail, or are read-only, under a real pool. By fault number.

What needs rights that a container may not have (a mount, a debugger) is skipped there; the tests of the
store cause the same faults without any.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from autocron_web.web import status
from conftest import RunScript, need
from pool_app import App, cpu_seconds, wait_for_pool

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]  # seconds, of which a busy machine may need many

TRY_ON = '''
def try_on(word):
    """`try_to` again and again, as a site with visitors does, until there is the file `<ledger>.<word>`."""
    while not os.path.exists(f"{LEDGER}.{word}"):
        try_to(word)
        time.sleep(0.1)
'''


@contextmanager
def file_size_limit(home: Path, pids: list[int]) -> Iterator[None]:
    """As `ulimit -f`: no file can be written beyond 16 KiB, which the WAL soon is."""
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (16384, hard))
    yield
    for pid, limits in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def no_room(home: Path, pids: list[int]) -> Iterator[None]:
    """The rest of the small disk that `home` is on is filled."""
    ballast = home / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield
    ballast.unlink()


@contextmanager
def failing_syncs(home: Path, pids: list[int]) -> Iterator[None]:
    """What is written does not reach the disk, and the kernel says so."""
    traced = [word for pid in pids for word in ("-p", str(pid))]
    fail = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    strace = subprocess.Popen(
        [need("strace"), "-f", *fail, "-o", "/dev/null", *traced], stderr=subprocess.PIPE, text=True
    )
    assert strace.stderr is not None
    try:
        for _ in pids:
            if "attached" not in (line := strace.stderr.readline()):
                pytest.skip(f"no process can be traced here: {line}")
        yield
    finally:
        strace.terminate()
        strace.communicate()


@pytest.fixture
def app(run_script: RunScript, tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> Iterator[App]:
    """An app whose store is on a disk of 2 MiB, where the fault is to be a full disk."""
    small = request.node.callspec.params.get("fault") is no_room
    if small:
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(home)]
        made = subprocess.run(mount, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no disk can be mounted here: {made.stderr}")
    app = App(run_script, tmp_path, home)
    app.add(TRY_ON)
    yield app
    app.release("visits")
    app.close()
    if small:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


Fault = Callable[[Path, list[int]], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(no_room, "SQLITE_FULL", id="58-disk-full"),
        pytest.param(file_size_limit, "SQLITE_IOERR", id="59-file-size-limit"),
        pytest.param(failing_syncs, "SQLITE_IOERR", id="60-sync-fails"),
    ],
)
def test_a_pool_pauses_while_the_disk_fails_and_goes_on_by_itself(
    app: App, home: Path, fault: Fault, code: str
) -> None:
    script = app.start("hold:a", "try_on:visits")
    app.wait_for("begin a")
    app.wait_for("tell visits")
    (monitor,), workers = wait_for_pool()
    with fault(home, [monitor, script.pid]):
        app.wait_for("tried StoreError", count=3)
        app.release("a")
        app.wait_for("end a")  # and its result cannot be written
        used = cpu_seconds(monitor)
        app.wait_for("tried StoreError", count=len(app.lines("tried StoreError")) + 10)
        assert cpu_seconds(monitor) - used < 0.5
        assert not app.lines("tried StoreBusy")
        found = status.document(app.store.name, "full")
        assert found["status"] == "fail"
        assert script.process.poll() is None
    stored = len(app.lines("tried stored"))
    app.wait_for("tried stored", count=stored + 3)
    app.release("visits")
    script.wait_for("called")
    accepted = len(app.lines("tried stored"))
    app.wait_for_counts(done=accepted + 1)
    assert wait_for_pool() == ({monitor}, workers)
    assert {job.attempt for job in app.store.jobs(limit=10_000)} == {1}, "no run was repeated"
    assert code in script.stderr
    assert 0 < script.stderr.count("faults.db cannot be used") < 20, "not once for each try"
    assert "Traceback" not in script.stderr
