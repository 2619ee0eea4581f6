"""What the operating system knows of processes: who lives, who dies with whom, who may start whom."""

from __future__ import annotations

import fcntl
import functools
import glob
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

#: Variables by which servers and reloaders pass sockets and roles to their children. A worker that
#: inherited one would take over a listening socket, or believe itself to be the reloader's child.
_SERVER_VARIABLES = frozenset({
    "BOTTLE_CHILD", "BOTTLE_LOCKFILE", "GUNICORN_FD", "GUNICORN_PID", "LISTEN_FDNAMES", "LISTEN_FDS",
    "LISTEN_PID", "NOTIFY_SOCKET", "QUART_RUN_MAIN", "RUN_MAIN", "SANIC_MOTD_OUTPUT",
    "SANIC_SERVER_RUNNING", "SANIC_WORKER_IDENTIFIER", "SANIC_WORKER_NAME", "SANIC_WORKER_PROCESS",
    "SERVER_SOFTWARE", "WERKZEUG_RUN_MAIN", "WERKZEUG_SERVER_FD",
})  # fmt: skip

LONGEST_WAIT = 2_000_000.0  # seconds, 23 days: poll(2) takes no more milliseconds than an int of C holds

PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The app's environment without what makes a process a server or a reloader's child."""
    return {key: value for key, value in environment.items() if key not in _SERVER_VARIABLES}


def interpreter() -> str:
    """The Python that can load this app.

    Under uWSGI `sys.executable` is the server's binary, under pyuwsgi the base interpreter, so the
    prefix decides: `AUTOCRON_PYTHON`, else `sys.prefix/bin/python3`, else `sys.executable`.
    """
    chosen = os.environ.get("AUTOCRON_PYTHON")
    if chosen:
        return chosen
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in (version, "python3"):
        candidate = os.path.join(sys.prefix, "bin", name)
        if os.access(candidate, os.X_OK):
            return candidate
    return sys.executable


def same_interpreter(one: str, other: str) -> bool:
    """Whether two paths lead to one interpreter of one environment, perhaps through links.

    The folder tells the environment: the file in it is mostly a link to the interpreter of all of them.
    """
    places = {(os.path.realpath(os.path.dirname(path)), os.path.realpath(path)) for path in (one, other)}
    return len(places) == 1


#: Options of an interpreter, by their names in `sys.flags`, that change what the app's code does or finds.
_OPTIONS = {
    "optimize": "-O", "bytes_warning": "-b", "dont_write_bytecode": "-B", "isolated": "-I",
    "ignore_environment": "-E", "no_user_site": "-s",
}  # fmt: skip
_REPORTS = {"importtime", "showrefcount"}  # options (-X) that only print, and much of it


def interpreter_options() -> list[str]:
    """The options with which this interpreter was started, for another one that is to load the same app."""
    options = [option for name, option in _OPTIONS.items() for _ in range(getattr(sys.flags, name))]
    for name, value in sys._xoptions.items():
        if name not in _REPORTS:
            options += ["-X", name if value is True else f"{name}={value}"]
    for warning in sys.warnoptions:
        options += ["-W", warning]
    return options


def pool_command(python: str, *arguments: str, options: Iterable[str] = ()) -> list[str]:
    """The command line of a monitor or worker.

    `-P` keeps the current folder off `sys.path`, where an app's `json.py` would hide the library's.
    """
    main = os.path.join(PACKAGE_ROOT, "autocron_web", "pool", "__main__.py")
    return [python, "-P", *options, main, *arguments]


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, or None where there is no such call."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # macOS; a seccomp filter; the process is gone already
        return None


def process_of(pidfd: int) -> tuple[int, int] | None:
    """What tells the process of a pidfd from all others; None where all have one inode (Linux before 6.9)."""
    found, own = identity(pidfd), open_pidfd(os.getpid())
    if own is None:
        return None
    try:
        return None if found == identity(own) else found
    finally:
        os.close(own)


def readable(descriptors: Iterable[int], timeout: float | None) -> list[int]:
    """Those of the descriptors that can be read, or have ended, after `timeout` seconds at most.

    Nobody waits for longer than `LONGEST_WAIT`.

    poll(2), because select(2) knows no descriptor above 1023, and a busy server has more. Eventlet's
    monkey-patching removes it, and puts a select without that limit.
    """
    if not hasattr(select, "poll"):
        return select.select(list(descriptors), [], [], timeout and min(timeout, LONGEST_WAIT))[0]
    poll = select.poll()
    for fd in descriptors:
        poll.register(fd, select.POLLIN)
    milliseconds = None if timeout is None else math.ceil(min(timeout, LONGEST_WAIT) * 1000)
    return [fd for fd, _ in poll.poll(milliseconds)]


def identity(fd: int) -> tuple[int, int] | None:
    """What a descriptor stands for; None if it is closed.

    A program or library that closes all descriptors closes ours too, and what is opened next gets
    their numbers: whoever keeps a descriptor for long compares this before each use.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_standard(fd: int) -> bool:
    """Whether 1 or 2 is the stdout or stderr that this process was given.

    Where an app has none, or has closed it, the next file that it opens gets the number. That file is not
    handed on to programs (PEP 446), and what a process was given by another one always is.
    """
    try:
        return os.get_inheritable(fd)
    except OSError:  # it is closed
        return False


def moved_up(fd: int, least: int) -> int:
    """The descriptor under another number, `least` or more, and closed for programs that are started."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), field 22), or None if it is gone.

    With the pid it names one process for as long as the machine runs, whatever pids are used again.
    A zombie is gone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def die_with_parent(parent: int) -> None:
    """Be killed as soon as the thread that started this process ends (prctl(2), PR_SET_PDEATHSIG).

    The kernel forgets it where the process changes its user or group, so this is said again then.
    """
    _prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def adopt_orphans(adopt: bool = True) -> None:
    """Become the parent of what this process's children leave behind (prctl(2), PR_SET_CHILD_SUBREAPER).

    adopt: False to leave them to the next process above that adopts orphans.
    """
    _prctl(36, int(adopt))


def _prctl(operation: int, value: int) -> None:
    if sys.platform == "linux":
        _libc_prctl()(operation, value, 0, 0, 0)


@functools.cache
def _libc_prctl() -> Callable[..., int]:
    import ctypes

    return ctypes.CDLL(None).prctl


class Child(NamedTuple):
    """A child of this process, or an orphan that it has adopted."""

    pid: int
    name: str
    group: int  # its process group
    ended: bool  # and nobody has waited for it


def children() -> list[Child]:
    """The children of this process; none where the system does not tell."""
    found = []
    for tasks in glob.glob("/proc/self/task/*/children"):
        for pid in _content(tasks).split():
            name, _, rest = _content(f"/proc/{int(pid)}/stat").rpartition(b")")
            fields = rest.split()
            if fields:
                called = name.partition(b"(")[2].decode(errors="replace")
                found.append(Child(int(pid), called, int(fields[2]), fields[0] in (b"Z", b"X")))
    return found


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has ended in between
        return b""


def memory_of(pid: int) -> int:
    """The bytes of memory that a process has in use (proc(5), the resident set); 0 if that cannot be told."""
    fields = _content(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def kill_group(group: int) -> None:
    """SIGKILL for a worker's process group, so that programs which its task started end too."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def file_mark(path: str) -> list[int] | None:
    """What changes when a file is written anew: its time and size; None if it is gone."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the second for what is no path at all
        return None
    return [status.st_mtime_ns, status.st_size]


def describe_end(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
