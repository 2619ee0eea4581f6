"""What all tests share: a home for stores, scripts in their own processes, and the guard against leftovers.

Nothing of ours may be left when a test is over. Whatever a test starts inherits `AUTOCRON_TEST_SESSION`,
so the guard finds it, and does not take another session's pool for this one's.
"""

from __future__ import annotations

import compileall
import functools
import gc
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import filterfalse
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from living import living

CHECKOUT = Path(__file__).resolve().parent.parent

#: The longest life of a pool after the last app process: a linger of 5 s, and the end of idle workers.
GONE_WITHIN = 8.0

_SESSION = uuid.uuid4().hex


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Wait until `condition()` is true; fail the test with `what` if it is not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.005  # growing, because looking costs too: the processor is wanted by what is waited for
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s in vain: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def cannot_run(reason: str) -> NoReturn:
    """Skip the test on a laptop, and fail it in CI, where everything is expected to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def need(tool: str) -> str:
    """The path of a program, found beside this Python or on the PATH; without it, see `cannot_run`."""
    beside = sysconfig.get_path("scripts")
    found = shutil.which(tool, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    return found or cannot_run(f"the program {tool!r} is not installed")


def free_port() -> int:
    """A port for a server on 127.0.0.1, below those that connections get (ip(7)): one could take it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # somebody has it
                continue
        return port


# -- the guard ------------------------------------------------------------------------------------


def pool_processes() -> dict[int, str]:
    """The monitors and workers that this session's tests have started: pid and command line.

    Always empty where there is no /proc (macOS).
    """
    found = living(f"AUTOCRON_TEST_SESSION={_SESSION}", b"/pool/__main__.py")
    return {process.pid: process.command for process in found if process.role}


def end_leftovers(timeout: float) -> str | None:
    """Wait until no pool is left, then kill what still lives, so that the next test starts clean.

    The answer names what had to be killed, or is None.
    """
    deadline = time.monotonic() + timeout
    while (left := pool_processes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not left:
        return None
    while living := pool_processes():
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended in between
        time.sleep(0.02)
    names = "".join(f"\n  {pid}  {command}" for pid, command in left.items())
    return f"{len(left)} of our processes still lived {timeout:g} s after the end:{names}"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # once, not in each process of xdist
        for folder in ("autocron_web", "integrations"):
            compileall.compile_dir(CHECKOUT / folder, quiet=2)
    for name in list(os.environ):  # what a developer has set for an app of theirs is not for the tests
        if name.startswith("AUTOCRON_") and not name.startswith(("AUTOCRON_RANDOM_", "AUTOCRON_PRELOAD")):
            del os.environ[name]
    os.environ["AUTOCRON_TEST_SESSION"] = _SESSION
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # by `nohup`, or by a shell that runs this with `&`
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first in the share of each process of xdist.

    They wait while others compute, and none of them is left to run alone at the end.
    """

    def is_long(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("timeout")
        return bool(marker and marker.args and marker.args[0] > 60)

    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long, short = list(filter(is_long, items)), list(filterfalse(is_long, items))
    items[:] = [
        item
        for number in range(processes)
        for part in (long, short)
        for item in part[len(part) * number // processes : len(part) * (number + 1) // processes]
    ]


@pytest.fixture(scope="session", autouse=True)
def nothing_compiled_by_scripts() -> None:
    """A module that changes within a second, and not in length, would be taken from its compiled file.

    Not earlier: pytest keeps the tests themselves compiled.
    """
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_by_the_session() -> Iterator[None]:
    """As `nothing_left`, for what a fixture of a module or the session has started."""
    yield
    time.sleep(0.1)  # a process that was started just now has no command line yet, and would be overlooked
    if left := end_leftovers(GONE_WITHIN):
        pytest.fail(f"after the last test {left}", pytrace=False)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[list[Path]]:
    """Fail a test that leaves a process of ours. The folders in the list are removed after that.

    First of all fixtures, so that it looks last, when the others have ended what they began.
    """
    folders: list[Path] = []
    yield folders
    left = end_leftovers(GONE_WITHIN)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail(left, pytrace=False)


# -- fixtures -------------------------------------------------------------------------------------


@pytest.fixture
def home(nothing_left: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new `AUTOCRON_HOME`. Its path is short, because a socket's may have only 108 bytes (unix(7))."""
    folder = Path(tempfile.mkdtemp(prefix="ac-", dir="/tmp"))
    nothing_left.append(folder)
    monkeypatch.setenv("AUTOCRON_HOME", str(folder))
    return folder


class Script:
    """A Python script in a process of its own; what it writes goes to files, so that it never blocks."""

    def __init__(self, file: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._out = tempfile.TemporaryFile(dir=file.parent)  # noqa: SIM115 - closed by `close`
        self._err = tempfile.TemporaryFile(dir=file.parent)  # noqa: SIM115 - as above
        self.process = subprocess.Popen(
            [sys.executable, str(file), *arguments],
            cwd=file.parent, env=environment, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has written to its standard output so far."""
        return _content(self._out.fileno())

    @property
    def stderr(self) -> str:
        """What it has written to its standard error so far."""
        return _content(self._err.fileno())

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Wait until `text` stands in its output; fail if it ends, or `timeout` seconds pass, without."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None  # asked first: the output may still come in between
            if text in self.stdout:
                return
            if ended or time.monotonic() > deadline:
                pytest.fail(f"{text!r} is not in the output of the script.\n{self._report()}")
            time.sleep(0.01)

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end; the answer is its exit status, negative for a signal."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the script still runs after {timeout:g} s.\n{self._report()}")

    def succeed(self, timeout: float = 30) -> str:
        """Wait for its end and fail unless its exit status is 0; the answer is its output."""
        if self.wait(timeout) != 0:
            pytest.fail(self._report())
        return self.stdout

    def kill(self) -> None:
        """SIGKILL, if it still runs, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def _report(self) -> str:
        return f"status: {self.process.poll()}\nstdout: {self.stdout}\nstderr: {self.stderr}"

    def close(self) -> None:
        self.kill()
        self._out.close()
        self._err.close()


def _content(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


class RunScript(Protocol):
    def __call__(
        self, source: str | Path, *arguments: object, env: Mapping[str, str] | None = None, wait: bool = True
    ) -> Script: ...


@functools.cache
def _installed() -> bool:
    """Whether a script outside the checkout can import autocron_web."""
    command = [sys.executable, "-P", "-c", "import autocron_web"]
    return subprocess.run(command, cwd="/", stderr=subprocess.DEVNULL).returncode == 0


@pytest.fixture
def run_script(tmp_path: Path, home: Path) -> Iterator[RunScript]:
    """Run a Python script in a new process, and kill it at the end of the test if it still runs.

    `run_script(source, *arguments, env={}, wait=True)` takes a file, or the text of a script, which is
    written to `tmp_path/application.py` (the next one to `application2.py`). `env` is added to the
    environment, in which `AUTOCRON_HOME` is `home`. With `wait` the script has ended and succeeded when
    the call returns. The answer is a `Script`.
    """
    scripts: list[Script] = []

    def run(
        source: str | Path, *arguments: object, env: Mapping[str, str] | None = None, wait: bool = True
    ) -> Script:
        if isinstance(source, str):
            file = tmp_path / f"application{len(scripts) + 1 if scripts else ''}.py"
            file.write_text(source)
        else:
            file = source
        environment = {**os.environ, **(env or {})}
        if not _installed():
            paths = [environment.get("PYTHONPATH", ""), str(CHECKOUT)]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        script = Script(file, tuple(map(str, arguments)), environment)
        scripts.append(script)
        if wait:
            script.succeed()
        return script

    yield run
    for script in scripts:
        script.close()


@pytest.fixture
def interrupted_steps() -> Iterator[None]:
    """What an interrupted step has left open is closed now, not in another test, which would be blamed."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
