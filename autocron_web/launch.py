"""Starting a monitor from an app process, reaching it, and waiting for its end."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import subprocess
import time
from contextlib import suppress
from typing import Any

from .pool.wire import Decoder, Frame, Kind, WireError, encode, peer_of, short_address
from .process import (
    interpreter,
    is_standard,
    moved_up,
    open_pidfd,
    pool_command,
    readable,
    start_time,
    worker_environment,
)

LOOK = 0.01  # seconds between looks at a process of which there is no pidfd
FAREWELL = 1.0  # seconds that a monitor which has closed its connections may take to end

_launchers: list[subprocess.Popen[bytes]] = []  # those that have not been seen to end


def start_monitor(path: str, options: dict[str, Any], deadline: float) -> bool | None:
    """Start a monitor for this database; whether it has won the election and takes connections.

    None says that it could not start, and that a sentence has told why. deadline: a moment of
    `time.monotonic()`. Raises OSError, or whatever else `subprocess` does, where no process is to be had.
    """
    out, into = os.pipe()
    try:
        try:
            if into < 3:  # where the monitor must have its standard streams
                low, into = into, -1
                into = moved_up(low, 3)
            streams = [None if is_standard(fd) else subprocess.DEVNULL for fd in (1, 2)]
            launcher = subprocess.Popen(
                pool_command(interpreter(), "monitor", path, str(into), json.dumps(options)),
                env=worker_environment(os.environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                pass_fds=(into,),
                start_new_session=True,
            )
        finally:
            if into >= 0:
                os.close(into)
        _launchers.append(launcher)
        if not readable([out], max(0.0, deadline - time.monotonic())):
            return False
        return {b"1": True, b"0": False}.get(os.read(out, 1))
    finally:
        os.close(out)
        reap()


def reap() -> bool:
    """Let no zombie stay of what has launched a monitor; whether one of them still has to end.

    It forks and ends at once, so that the monitor is nobody's child here. But not before the interpreter has
    begun, which can take longer than anybody wants to wait.
    """
    for launcher in list(_launchers):
        if launcher.poll() is not None:
            with suppress(ValueError):  # another thread has seen it too
                _launchers.remove(launcher)
    return bool(_launchers)


def connect(path: str, timeout: float) -> socket.socket:
    """A connection to the monitor of this database. Raises OSError where there is none to talk to.

    timeout: seconds, as a monitor may be stopped, with more connections waiting than it can have; 0 for not
        at all.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        # Not settimeout(): a socket that does not block is refused at once where the queue is full.
        if timeout:
            interval = struct.pack("ll", *divmod(int(timeout * 1e6), 10**6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
        else:
            sock.setblocking(False)
        with short_address(path + ".sock") as address:
            if not stat.S_ISSOCK(os.lstat(address).st_mode):
                raise ConnectionRefusedError("a link is not followed: it may lead to somebody else")
            sock.connect(address)
        if peer_of(sock)[1] not in (os.geteuid(), 0, os.stat(path).st_uid):
            raise PermissionError("who has no right to the store is not told what is in the environment")
    except BaseException:
        sock.close()
        raise
    return sock


def tell(path: str, frame: Frame, timeout: float) -> int | None:
    """Send a frame to the monitor of this database without counting as an app process; the monitor's pid.

    None where there is no monitor. timeout: seconds.
    """
    try:
        sock = connect(path, timeout)
    except OSError:
        return None
    with sock:
        sock.settimeout(timeout)
        try:
            sock.sendall(encode(frame))
        except OSError:
            return None
        return peer_of(sock)[0]


def ask_monitor(path: str, timeout: float) -> dict[str, Any] | int | None:
    """What the monitor of this database tells of its pool: see `autocron_web.pool.info`.

    None where there is no monitor; its pid where it has not answered after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    try:
        sock = connect(path, timeout)
    except BlockingIOError:  # the timeout of a connection: as many wait as can
        return 0
    except OSError:
        return None
    with sock:
        pid, decoder = peer_of(sock)[0], Decoder()
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock.sendall(encode(Frame(Kind.INFO)))
            while data := sock.recv(65536):
                for frame in decoder.feed(data):
                    if frame.kind == Kind.INFO:
                        return frame.head
                sock.settimeout(max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            return pid
        except (OSError, WireError):
            pass
    return None  # it is ending


def wait_for_end(pid: int, deadline: float | None) -> bool:
    """Wait until the process has ended; False at the deadline."""
    pidfd = open_pidfd(pid)
    if pidfd is not None:
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return bool(readable([pidfd], left))
        finally:
            os.close(pidfd)
    while start_time(pid) is not None:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(LOOK)
    return True


def reap_monitor(pid: int) -> None:
    """Leave no zombie of a monitor that is ending, where orphans are this process's children.

    So they are where it is the first one of a container; elsewhere this does nothing.
    """
    deadline = time.monotonic() + FAREWELL
    with suppress(ChildProcessError):
        while pid > 0 and os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(LOOK)
