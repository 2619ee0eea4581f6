"""The processes that live on this machine, as /proc tells (proc(5)); none where there is no /proc (macOS)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_ROLE = re.compile(r"autocron_web/pool/__main__\.py (monitor|worker|template)\b")


class Process(NamedTuple):
    """A process that has inherited a variable of the environment."""

    pid: int
    group: int
    command: str

    @property
    def role(self) -> str:
        """`monitor`, `worker`, or "" for what is not ours."""
        found = _ROLE.search(self.command)
        return found[1] if found else ""


def living(variable: str, text: bytes = b"") -> Iterator[Process]:
    """The processes with this variable ("NAME=value") in the environment they were started with.

    text: only those whose command line contains it. Zombies do not live.
    """
    mark = variable.encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdigit():
            continue
        try:
            command = _read(f"/proc/{name}/cmdline")
            if text not in command or mark not in _read(f"/proc/{name}/environ").split(b"\0"):
                continue
            state, _, group = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()[:3]
        except OSError:
            continue  # it has ended in between, or belongs to somebody else
        if state not in b"ZX":
            yield Process(
                int(name), int(group), command.replace(b"\0", b" ").decode(errors="replace").strip()
            )


def _read(path: str) -> bytes:
    """A whole small file, without what `open` does around it: tests look again and again at all processes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while piece := os.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        os.close(fd)
